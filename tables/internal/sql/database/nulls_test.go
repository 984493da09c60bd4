//go:build cgo

package database

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/go-partd/partd/internal/testutil/must"
)

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
				if err != nil {
					t.Fatal(err)
				}
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
