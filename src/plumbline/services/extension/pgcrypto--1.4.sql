-- A stand-in for pgcrypto in the embedded PostgreSQL, whose package lacks it. All values are as the standards say. What
-- the server cannot do itself is a function that fails and says so.

-- SHA-1 (FIPS 180-4), which PostgreSQL itself lacks.
CREATE FUNCTION pgcrypto_sha1(data bytea) RETURNS bytea IMMUTABLE STRICT PARALLEL SAFE LANGUAGE plpgsql AS $$
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

CREATE FUNCTION digest(data bytea, type text) RETURNS bytea IMMUTABLE STRICT PARALLEL SAFE LANGUAGE plpgsql AS $$
BEGIN
    CASE lower(type)
        WHEN 'md5' THEN RETURN decode(md5(data), 'hex');
        WHEN 'sha1' THEN RETURN @extschema@.pgcrypto_sha1(data);
        WHEN 'sha224' THEN RETURN sha224(data);
        WHEN 'sha256' THEN RETURN sha256(data);
        WHEN 'sha384' THEN RETURN sha384(data);
        WHEN 'sha512' THEN RETURN sha512(data);
        ELSE RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
            MESSAGE = format('Cannot use "%s": the embedded PostgreSQL has md5, sha1, sha224, sha256, sha384, sha512', type),
            HINT = 'Set PERF_SERVICES=docker to have all of pgcrypto.';
    END CASE;
END
$$;

CREATE FUNCTION digest(data text, type text) RETURNS bytea IMMUTABLE STRICT PARALLEL SAFE LANGUAGE sql
RETURN digest(convert_to(data, getdatabaseencoding()), type);

-- RFC 2104.
CREATE FUNCTION hmac(data bytea, key bytea, type text) RETURNS bytea IMMUTABLE STRICT PARALLEL SAFE LANGUAGE plpgsql AS $$
DECLARE
    size int := CASE WHEN lower(type) IN ('sha384', 'sha512') THEN 128 ELSE 64 END;
    inner_pad bytea := CASE WHEN length(key) > size THEN @extschema@.digest(key, type) ELSE key END;
    outer_pad bytea;
BEGIN
    inner_pad := inner_pad || decode(repeat('00', size - length(inner_pad)), 'hex');
    outer_pad := inner_pad;
    FOR i IN 0 .. size - 1 LOOP
        inner_pad := set_byte(inner_pad, i, get_byte(inner_pad, i) # 54);
        outer_pad := set_byte(outer_pad, i, get_byte(outer_pad, i) # 92);
    END LOOP;
    RETURN @extschema@.digest(outer_pad || @extschema@.digest(inner_pad || data, type), type);
END
$$;

CREATE FUNCTION hmac(data text, key text, type text) RETURNS bytea IMMUTABLE STRICT PARALLEL SAFE LANGUAGE sql
RETURN hmac(convert_to(data, getdatabaseencoding()), convert_to(key, getdatabaseencoding()), type);

CREATE FUNCTION gen_random_uuid() RETURNS uuid VOLATILE PARALLEL SAFE LANGUAGE sql
RETURN pg_catalog.gen_random_uuid();

-- Of each UUID, the 13 bytes that are random in all bits.
CREATE FUNCTION gen_random_bytes(count int) RETURNS bytea VOLATILE STRICT PARALLEL SAFE LANGUAGE plpgsql AS $$
DECLARE
    found bytea := '';
    drawn bytea;
BEGIN
    IF count NOT BETWEEN 1 AND 1024 THEN
        RAISE EXCEPTION 'Length not in range' USING ERRCODE = 'external_routine_invocation_exception';
    END IF;
    WHILE length(found) < count LOOP
        drawn := uuid_send(pg_catalog.gen_random_uuid());
        found := found || substr(drawn, 1, 6) || substr(drawn, 10);
    END LOOP;
    RETURN substr(found, 1, count);
END
$$;

DO $do$
DECLARE
    signature text;
BEGIN
    FOREACH signature IN ARRAY ARRAY[
        'crypt(text, text) RETURNS text',
        'gen_salt(text) RETURNS text',
        'gen_salt(text, int) RETURNS text',
        'encrypt(bytea, bytea, text) RETURNS bytea',
        'decrypt(bytea, bytea, text) RETURNS bytea',
        'encrypt_iv(bytea, bytea, bytea, text) RETURNS bytea',
        'decrypt_iv(bytea, bytea, bytea, text) RETURNS bytea',
        'pgp_sym_encrypt(text, text) RETURNS bytea',
        'pgp_sym_encrypt(text, text, text) RETURNS bytea',
        'pgp_sym_encrypt_bytea(bytea, text) RETURNS bytea',
        'pgp_sym_encrypt_bytea(bytea, text, text) RETURNS bytea',
        'pgp_sym_decrypt(bytea, text) RETURNS text',
        'pgp_sym_decrypt(bytea, text, text) RETURNS text',
        'pgp_sym_decrypt_bytea(bytea, text) RETURNS bytea',
        'pgp_sym_decrypt_bytea(bytea, text, text) RETURNS bytea',
        'pgp_pub_encrypt(text, bytea) RETURNS bytea',
        'pgp_pub_encrypt(text, bytea, text) RETURNS bytea',
        'pgp_pub_encrypt_bytea(bytea, bytea) RETURNS bytea',
        'pgp_pub_encrypt_bytea(bytea, bytea, text) RETURNS bytea',
        'pgp_pub_decrypt(bytea, bytea) RETURNS text',
        'pgp_pub_decrypt(bytea, bytea, text) RETURNS text',
        'pgp_pub_decrypt(bytea, bytea, text, text) RETURNS text',
        'pgp_pub_decrypt_bytea(bytea, bytea) RETURNS bytea',
        'pgp_pub_decrypt_bytea(bytea, bytea, text) RETURNS bytea',
        'pgp_pub_decrypt_bytea(bytea, bytea, text, text) RETURNS bytea',
        'pgp_key_id(bytea) RETURNS text',
        'armor(bytea) RETURNS text',
        'armor(bytea, text[], text[]) RETURNS text',
        'dearmor(text) RETURNS bytea',
        'pgp_armor_headers(text, OUT key text, OUT value text) RETURNS SETOF record',
        'fips_mode() RETURNS bool'
    ] LOOP
        EXECUTE format($create$CREATE FUNCTION %s VOLATILE STRICT PARALLEL SAFE LANGUAGE plpgsql AS $body$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
        MESSAGE = 'the embedded PostgreSQL has no function %s() of pgcrypto',
        HINT = 'Set PERF_SERVICES=docker to have all of pgcrypto.';
END
$body$$create$, signature, split_part(signature, '(', 1));
    END LOOP;
END
$do$;
