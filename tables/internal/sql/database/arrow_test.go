//go:build cgo

package database

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// TestTypesWithoutArrow checks that describing or running a statement fails if DuckDB cannot convert a column's type
// to Arrow.
func TestTypesWithoutArrow(t *testing.T) {
	for _, value := range []string{"get_type(1)", "[get_type(1)]", "{a: get_type(1)}"} {
		d := openDatabase(t, 64<<20)
		j := &Job{Memory: 64 << 20, SQL: "SELECT 1 AS a, " + value + " AS b"}
		_, _, describeErr := d.Describe(j)
		_, startErr := d.Start(t.Context(), j)
		d.Finish()
		for _, err := range []error{describeErr, startErr} {
			if _, ok := err.(*sqltext.Error); !ok || !strings.Contains(err.Error(), `column "b": Not implemented error: Unsupported Arrow type TYPE: cast it`) {
				t.Errorf("%s: got error %v, want an error about column b and its type", value, err)
			}
		}
	}
	d := openDatabase(t, 64<<20)
	if _, _, err := d.Describe(&Job{Memory: 64 << 20, SQL: "SELECT ? AS a"}); err != nil {
		t.Error(err)
	}
}

// TestSchemaAsJSON encodes column names as JSON, as package duck does, and checks that DuckDB decodes
// them unchanged.
func TestSchemaAsJSON(t *testing.T) {
	d := openDatabase(t, 64<<20)
	alphabet := []string{`"`, `'`, `\`, "{", "}", ":", "=", " ", "\n", "\t", "\x01", "<", "&", "NULL", "a", "é", "\u2028", "😀", "$", "n", "u"}
	random := rand.New(rand.NewPCG(7, 7))
	for range 2000 {
		name := ""
		for range random.IntN(8) {
			name += alphabet[random.IntN(len(alphabet))]
		}
		definition := must.Get(json.Marshal(map[string]any{"name": name, "type": nil}))(t)
		sql := "SELECT (m[7].name = " + sqltext.Text(name) + ` AND m[7]."type" IS NULL)::VARCHAR FROM (SELECT ` +
			sqltext.Text(`{"7":`+string(definition)+"}") + `::JSON::MAP(INTEGER, STRUCT("name" VARCHAR, "type" VARCHAR)) AS m)`
		if got := firstValue(t, d, sql); got != "true" {
			t.Errorf("column name %q: got %s, want true", name, got)
		}
	}
}

// TestNullsAreBlank checks that the encoded bytes of rows with nulls do not depend on earlier statements.
func TestNullsAreBlank(t *testing.T) {
	d := openDatabase(t, 64<<20)
	run := func(sql string) (encoded []byte) {
		t.Helper()
		var buffer bytes.Buffer
		defer d.Finish()
		rows := startStatement(t, d, sql)
		defer rows.End()
		w := ipc.NewWriter(&buffer, ipc.WithSchema(rows.Schema()))
		for {
			batch, err := rows.Next()
			if batch == nil || err != nil {
				must.Do(t, err)
				return buffer.Bytes()
			}
			must.Do(t, w.Write(batch))
			batch.Release()
		}
	}
	for name, value := range map[string]string{
		"bool": "i %% 2 = %d", "int8": "((i + %d) %% 100)::TINYINT", "int64": "i * %d", "float32": "(i * %d)::FLOAT", "float64": "(i * %d)::DOUBLE",
		"decimal": "(i * %d)::DECIMAL(30, 2)", "hugeint": "(i * %d)::HUGEINT", "sum": "(i + %d)::DECIMAL(38, 0)", "uuid": "md5((i * %d)::VARCHAR)::UUID",
		"date": "DATE '2020-01-01' + ((i * %d) %% 1000)::INTEGER", "timestamp": "make_timestamp(i * %d)", "time": "TIME '00:00:00' + to_seconds(i %% 1000 + %d)",
		"interval": "to_seconds(i * %d)", "text": "'text of more than twelve bytes ' || i * %d", "list": "[i * %d, NULL, i]", "struct": "{'a': i * %d, 'b': i::VARCHAR, 'c': {'d': i}}",
		"array": "[i * %d, NULL, i + 1]", "map": "MAP {i: i * %d}", "union": "union_value(n := i * %d)", "enum": "(CASE WHEN (i * %d) %% 2 = 0 THEN 'a' ELSE 'b' END)::ENUM('a', 'b')",
	} {
		var first []byte
		cast := ""
		if name == "array" { // CASE does not support arrays
			cast = "::BIGINT[3]"
		}
		for round := range 8 {
			run("SELECT (" + fmt.Sprintf(value, 7+round*1_000_003) + ")" + cast + " FROM range(5000) r(i)") // leaves other values in memory in each round
			got := run("SELECT (CASE WHEN i % 3 = 1 THEN " + fmt.Sprintf(value, 3) + " END)" + cast + " AS v FROM range(5000) r(i)")
			if first == nil {
				first = got
			}
			if !bytes.Equal(got, first) {
				t.Errorf("%s: the encoded rows differ after other statements", name)
				break
			}
		}
	}
}

// TestMergedChunks checks that a worker's results with small chunks have the same rows in fewer batches, and that large
// texts, nested values and many columns are not merged.
func TestMergedChunks(t *testing.T) {
	d := openDatabase(t, 512<<20)
	file := filepath.Join(t.TempDir(), "rows.parquet")
	must.Do(t, d.execute("COPY (SELECT range AS a, range % 3000 AS b, CASE WHEN range % 2 = 0 THEN 'text number ' || range END AS c FROM range(1000000)) TO '"+file+"'"))
	// read returns the rows as text, and the number of batches.
	read := func(columns string, merges bool) (rows []string, batches int) {
		d.mergesChunks = merges
		r := must.Get(d.Start(context.Background(), &Job{Memory: 512 << 20, Paths: []string{file}, SQL: "SELECT " + columns + " FROM read_parquet('" + file + "') WHERE b = 7"}))(t)
		defer d.Finish()
		defer r.End()
		for {
			b := must.Get(r.Next())(t)
			if b == nil {
				return rows, batches
			}
			if size := util.TotalRecordSize(b); b.NumRows() > 1 && size > 1<<20 {
				t.Errorf("%s: a merged batch has %d bytes, want at most 1 MiB", columns, size)
			}
			rows = append(rows, rowTexts(b)...)
			batches++
			b.Release()
		}
	}
	wide := "a" + strings.Repeat(", a", maxMergedCols)
	for columns, maxBatches := range map[string]int{wide: 334, "a, c, b::SMALLINT, a::HUGEINT": 1, "a, [c] AS l": 334, "repeat('x', 60000) || a AS d, a": 84} {
		want, single := read(columns, false)
		got, merged := read(columns, true)
		if len(want) != 333 && len(want) != 334 || single < len(want)/2 {
			t.Fatalf("%s: the test is useless: %d rows in %d batches", columns, len(want), single)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: merged rows = %v, want %v", columns, got, want)
		}
		if merged > maxBatches || maxBatches == 334 && merged != single {
			t.Errorf("%s: %d batches, want at most %d; without merging, %d", columns, merged, maxBatches, single)
		}
	}
}
