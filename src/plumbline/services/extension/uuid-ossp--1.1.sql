-- A stand-in for uuid-ossp in the embedded PostgreSQL, whose package lacks it. All values are as the standard says.

-- SHA-1 (FIPS 180-4), which PostgreSQL itself lacks.
CREATE FUNCTION uuid_ossp_sha1(data bytea) RETURNS bytea IMMUTABLE STRICT PARALLEL SAFE LANGUAGE plpgsql AS $$
DECLARE
    mask CONSTANT bigint := 4294967295;
    padded bytea := data || '\x80'::bytea || decode(repeat('00', (119 - length(data) % 64) % 64), 'hex')
        || int8send(length(data) * 8::bigint);
    h bigint[] := ARRAY[1732584193, 4023233417, 2562383102, 271733878, 3285377520];
    w bigint[];
    a bigint; b bigint; c bigint; d bigint; e bigint; f bigint; k bigint; t bigint;
BEGIN
    FOR block IN 0 .. length(padded) / 64 - 1 LOOP
        a := h[1]; b := h[2]; c := h[3]; d := h[4]; e := h[5];
        FOR i IN 0 .. 79 LOOP
            IF i < 16 THEN
                w[i] := ('x' || encode(substr(padded, block * 64 + i * 4 + 1, 4), 'hex'))::bit(32)::bigint;
            ELSE
                t := w[i - 3] # w[i - 8] # w[i - 14] # w[i - 16];
                w[i] := ((t << 1) | (t >> 31)) & mask;
            END IF;
            IF i < 20 THEN f := (b & c) | ((b # mask) & d); k := 1518500249;
            ELSIF i < 40 THEN f := b # c # d; k := 1859775393;
            ELSIF i < 60 THEN f := (b & c) | (b & d) | (c & d); k := 2400959708;
            ELSE f := b # c # d; k := 3395469782;
            END IF;
            t := ((((a << 5) | (a >> 27)) & mask) + f + e + k + w[i]) & mask;
            e := d; d := c; c := ((b << 30) | (b >> 2)) & mask; b := a; a := t;
        END LOOP;
        h := ARRAY[(h[1] + a) & mask, (h[2] + b) & mask, (h[3] + c) & mask, (h[4] + d) & mask, (h[5] + e) & mask];
    END LOOP;
    RETURN decode(lpad(to_hex(h[1]), 8, '0') || lpad(to_hex(h[2]), 8, '0') || lpad(to_hex(h[3]), 8, '0')
        || lpad(to_hex(h[4]), 8, '0') || lpad(to_hex(h[5]), 8, '0'), 'hex');
END
$$;

-- The first 16 bytes, with the version and the variant of a UUID (RFC 9562).
CREATE FUNCTION uuid_ossp_of(data bytea, version int) RETURNS uuid IMMUTABLE STRICT PARALLEL SAFE LANGUAGE sql
RETURN encode(set_byte(set_byte(substr(data, 1, 16),
    6, (get_byte(data, 6) & 15) | (version << 4)), 8, (get_byte(data, 8) & 63) | 128), 'hex')::uuid;

CREATE FUNCTION uuid_nil() RETURNS uuid IMMUTABLE STRICT PARALLEL SAFE LANGUAGE sql
RETURN '00000000-0000-0000-0000-000000000000'::uuid;

CREATE FUNCTION uuid_ns_dns() RETURNS uuid IMMUTABLE STRICT PARALLEL SAFE LANGUAGE sql
RETURN '6ba7b810-9dad-11d1-80b4-00c04fd430c8'::uuid;

CREATE FUNCTION uuid_ns_url() RETURNS uuid IMMUTABLE STRICT PARALLEL SAFE LANGUAGE sql
RETURN '6ba7b811-9dad-11d1-80b4-00c04fd430c8'::uuid;

CREATE FUNCTION uuid_ns_oid() RETURNS uuid IMMUTABLE STRICT PARALLEL SAFE LANGUAGE sql
RETURN '6ba7b812-9dad-11d1-80b4-00c04fd430c8'::uuid;

CREATE FUNCTION uuid_ns_x500() RETURNS uuid IMMUTABLE STRICT PARALLEL SAFE LANGUAGE sql
RETURN '6ba7b814-9dad-11d1-80b4-00c04fd430c8'::uuid;

-- 100 ns since 1582-10-15, a random clock sequence, and a random node with the multicast bit instead of a MAC address.
CREATE FUNCTION uuid_generate_v1mc() RETURNS uuid VOLATILE STRICT PARALLEL SAFE LANGUAGE plpgsql AS $$
DECLARE
    ticks text := lpad(to_hex((extract(epoch FROM clock_timestamp()) * 10000000)::bigint + 122192928000000000), 16, '0');
    rest bytea := substr(uuid_send(gen_random_uuid()), 9);
BEGIN
    RETURN (substr(ticks, 9, 8) || substr(ticks, 5, 4) || '1' || substr(ticks, 2, 3)
        || encode(set_byte(rest, 2, get_byte(rest, 2) | 1), 'hex'))::uuid;
END
$$;

CREATE FUNCTION uuid_generate_v1() RETURNS uuid VOLATILE STRICT PARALLEL SAFE LANGUAGE sql
RETURN uuid_generate_v1mc();

CREATE FUNCTION uuid_generate_v3(namespace uuid, name text) RETURNS uuid IMMUTABLE STRICT PARALLEL SAFE LANGUAGE sql
RETURN uuid_ossp_of(decode(md5(uuid_send(namespace) || convert_to(name, getdatabaseencoding())), 'hex'), 3);

CREATE FUNCTION uuid_generate_v4() RETURNS uuid VOLATILE STRICT PARALLEL SAFE LANGUAGE sql
RETURN gen_random_uuid();

CREATE FUNCTION uuid_generate_v5(namespace uuid, name text) RETURNS uuid IMMUTABLE STRICT PARALLEL SAFE LANGUAGE sql
RETURN uuid_ossp_of(uuid_ossp_sha1(uuid_send(namespace) || convert_to(name, getdatabaseencoding())), 5);
