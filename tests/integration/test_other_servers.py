"""Applications that another server than uvicorn serves, in paired comparisons."""

import textwrap

import pytest

from tests.support.project import SETTINGS, Project

LIMITS = "tolerance = 0.2\nminimum_effect = 0.9\nduet_budget_s = 20\n"
SUITE = """
    import httpx
    import pytest


    @pytest.mark.parametrize("path", {paths})
    def test_get(api_url, measure, path):
        with httpx.Client(base_url=api_url, trust_env=False) as client:
            for timer in measure():
                with timer:
                    response = client.get(path)
                assert response.status_code == 200
"""
PERL = """
    use IO::Socket::INET;
    my $steps = 1_000;
    my $server = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $ENV{PORT}, Listen => 128, ReuseAddr => 1)
        or die $@;
    $SIG{CHLD} = "IGNORE";
    while (my $client = $server->accept) {
        next if fork;
        while (defined(my $line = <$client>)) {
            next if $line ne "\\r\\n";
            my $sum = 0;
            $sum += $_ % 7 for 1 .. $steps;
            print $client "HTTP/1.1 200 OK\\r\\nContent-Length: 4\\r\\n\\r\\nwell";
        }
        exit;
    }
"""


@pytest.fixture
def shop(project: Project) -> Project:
    """A repository without benchmarks."""
    project.git("init", "--quiet", "--initial-branch=main")
    return project


def test_a_server_in_another_language_is_compared(shop: Project) -> None:
    """Each side runs its own copy. Any change affects the benchmarks that use it, and the report says so."""
    app = '[app]\ncommand = ["perl", "server.pl"]\nenv = { PORT = "{port}" }\n'
    shop.write("settings.toml", SETTINGS + LIMITS + app)
    shop.write("test_suite.py", textwrap.dedent(SUITE).format(paths=["/health"]))
    (shop.root / "server.pl").write_text(textwrap.dedent(PERL))
    shop.commit("Start")
    (shop.root / "server.pl").write_text(textwrap.dedent(PERL).replace("1_000", "500_000"))
    done = shop.own_python("-m", "plumbline", "compare", "HEAD")

    assert done.code == 1, done.output
    assert shop.verdicts() == {"test_suite.py::test_get[/health]": "regression"}
    assert "benchmarks that use app count as affected by any change" in " ".join(done.output.split())
