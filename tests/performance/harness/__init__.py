"""The harness of the performance suite: it belongs to the template, and `copier update` brings it up to date.

Yours to edit is what lies beside this folder: settings.toml, conftest.py, test_*.py and baselines/.
"""
