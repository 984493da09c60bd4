//go:build cgo

package duck_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/internal/faces/serving"
	"github.com/go-partd/partd/tables/internal/sql/database"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// extremes has literals for arguments of each type.
var extremes = map[string][]string{
	"BOOLEAN":   {"true"},
	"TINYINT":   {"(-128)::TINYINT", "127::TINYINT"},
	"SMALLINT":  {"(-32768)::SMALLINT", "32767::SMALLINT"},
	"INTEGER":   {"(-2147483648)::INTEGER", "2147483647", "0"},
	"BIGINT":    {"(-9223372036854775808)::BIGINT", "9223372036854775807", "0", "1"},
	"HUGEINT":   {"(-170141183460469231731687303715884105728)::HUGEINT", "170141183460469231731687303715884105727::HUGEINT"},
	"UTINYINT":  {"255::UTINYINT"},
	"USMALLINT": {"65535::USMALLINT"},
	"UINTEGER":  {"4294967295::UINTEGER"},
	"UBIGINT":   {"18446744073709551615::UBIGINT"},
	"UHUGEINT":  {"340282366920938463463374607431768211455::UHUGEINT"},
	"BIGNUM":    {"'-99999999999999999999999999999999999999999999999999'::BIGNUM"},
	"FLOAT":     {"'nan'::FLOAT", "3.4e38::FLOAT"},
	"DOUBLE":    {"'-inf'::DOUBLE", "1.7e308", "'nan'::DOUBLE", "-0.0::DOUBLE"},
	"DECIMAL":   {"99999999999999999999999999999999999999::DECIMAL(38, 0)", "-0.0000000001::DECIMAL(38, 10)"},
	"VARCHAR":   {"''", "'%'", "'🙂\\x'", "repeat('x', 600)", "'9999-12-31 23:59:59'", "'[1'"},
	"BLOB":      {"''::BLOB", "'\\xFF\\x00'::BLOB"},
	"BIT":       {"'0101'::BIT"},
	"UUID":      {"'ffffffff-ffff-ffff-ffff-ffffffffffff'::UUID"},
	"DATE":      {"'infinity'::DATE", "'5877642-06-25 (BC)'::DATE", "'9999-12-31'::DATE"},
	"TIME":      {"'24:00:00'::TIME", "'23:59:59.999999'::TIME"},
	"TIME_NS":   {"'23:59:59.999999999'::TIME_NS"},
	"TIMESTAMP": {"'-infinity'::TIMESTAMP", "'290309-12-22 (BC) 00:00:00'::TIMESTAMP", "'294247-01-10 04:00:54.775806'::TIMESTAMP"},
	"INTERVAL":  {"INTERVAL '2147483647 months'", "INTERVAL '-2147483648 days'", "INTERVAL 0 DAY"},
	"JSON":      {"'[[[]]]'::JSON", "'{\"a\":1e400}'::JSON"},
	"GEOMETRY":  {"'POINT(1 2)'::GEOMETRY"},
	"STRUCT":    {"{'a': NULL}"},
	"ANY":       {"NULL", "'x'", "[NULL]", "{'a': 1}", "MAP {1: 2}", "9223372036854775807", "'infinity'::TIMESTAMPTZ"},
}

// literalOf returns a random literal for an argument of the given type.
func literalOf(r *rand.Rand, typ string) string {
	switch {
	case r.IntN(8) == 0:
		return "NULL"
	case strings.HasSuffix(typ, "[]"):
		return "[" + literalOf(r, strings.TrimSuffix(typ, "[]")) + ", NULL]"
	case strings.HasPrefix(typ, "MAP"):
		return "MAP {'k': 9223372036854775807}"
	case strings.HasPrefix(typ, "TIMESTAMP_") || strings.HasSuffix(typ, "WITH TIME ZONE"):
		return "'9999-12-31 23:59:59'::" + typ
	case strings.HasPrefix(typ, "DECIMAL"):
		typ = "DECIMAL"
	}
	all, ok := extremes[typ]
	if !ok {
		all = extremes["ANY"]
	}
	return all[r.IntN(len(all))]
}

// signatures returns the scalar functions, aggregates and macros of DuckDB, each as its name and the types of its
// arguments, separated by NULs.
func signatures(t *testing.T) (all [][]string) {
	t.Helper()
	d := must.Get(database.Open(&database.Options{Memory: 256 << 20, MaxTemp: 1 << 20, Threads: 1}, t.TempDir()+"/spill"))(t)
	defer d.Close()
	rows := must.Get(d.Start(t.Context(), &database.Job{Memory: 256 << 20, SQL: `SELECT DISTINCT function_name || chr(1) || coalesce(
		array_to_string(list_transform(parameter_types, lambda p: coalesce(p, 'ANY')), chr(1)), '') AS f FROM duckdb_functions()
		WHERE function_type IN ('scalar', 'aggregate', 'macro') ORDER BY f`}))(t)
	defer rows.End()
	for {
		b := must.Get(rows.Next())(t)
		if b == nil {
			return all
		}
		for i := range int(b.NumRows()) {
			all = append(all, strings.Split(strings.Clone(b.Column(0).ValueStr(i)), "\x01"))
		}
		b.Release()
	}
}

// TestFunctionsWithExtremes calls every function of DuckDB with extreme arguments. Whatever happens is an answer or the
// statement's error, never a fault of the server, and later statements still run. By default, it calls 300 of them;
// PARTD_FUNCTION_ROUNDS is how often to call all.
func TestFunctionsWithExtremes(t *testing.T) {
	s := newStore(t, &duck.Options{Processes: true, Memory: 128 << 20, MaxTemp: 64 << 20})
	change(t, s, "CREATE TABLE t AS SELECT range AS i FROM range(3)", 3)
	rounds := 0
	if text := os.Getenv("PARTD_FUNCTION_ROUNDS"); text != "" {
		must.Get(fmt.Sscan(text, &rounds))(t)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	all := signatures(t)
	if len(all) < 2000 {
		t.Errorf("DuckDB lists %d functions", len(all))
	}
	if rounds == 0 {
		rounds = 1
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:300]
	}
	answers, faults := map[codes.Code]int{}, 0
	for range rounds {
		for _, f := range all {
			var args []string
			for _, typ := range f[1:] {
				if typ != "" {
					args = append(args, literalOf(r, typ))
				}
			}
			sql := fmt.Sprintf("SELECT %s(%s) AS r FROM t", f[0], strings.Join(args, ", "))
			if strings.ContainsAny(f[0], "+-*/%<>=!~@^&|") {
				sql = fmt.Sprintf("SELECT %s AS r FROM t", strings.Join(args, " "+f[0]+" "))
			}
			code := codeOf(t, s, sql)
			answers[code]++
			if code == codes.Internal || code == codes.Unknown {
				if faults++; faults < 20 {
					_, err := rows(t, s, sql, &tables.QueryOptions{Bucket: "b"})
					t.Errorf("%s: %v (%v)", sql, code, err)
				}
			}
		}
	}
	t.Log(len(all), "functions:", answers)
	if answers[codes.OK] < len(all)*rounds/4 {
		t.Errorf("only %d of %d calls returned rows", answers[codes.OK], len(all)*rounds)
	}
	expect(t, s, "SELECT count(*) FROM t", &tables.QueryOptions{Bucket: "b"}, "3")
}

// codeOf runs a statement, and returns the code with which a server would answer.
func codeOf(t *testing.T, s *tables.Store, sql string) codes.Code {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	reader, err := s.Query(ctx, sql, &tables.QueryOptions{Bucket: "b"})
	if err == nil {
		for reader.Next() {
		}
		err = reader.Err()
		reader.Release()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%s: runs for more than 20 s", sql)
	}
	return status.Code(serving.Status(err))
}
