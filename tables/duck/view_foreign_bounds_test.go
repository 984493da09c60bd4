//go:build cgo

package duck_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// foreignBounds returns bounds as other programs write them: cut texts, missing bounds, and bounds of a wrong size,
// which say nothing. isText is true for texts.
func foreignBounds(r *rand.Rand, isText bool, low, high []byte) (lower, upper []byte) {
	switch r.IntN(6) {
	case 0:
		return nil, high
	case 1:
		return low, nil
	case 2:
		if !isText {
			return slices.Repeat([]byte{0xff}, []int{0, 3, 5}[r.IntN(3)]), nil
		}
	case 3, 4:
		if !isText || low == nil || high == nil {
			return low, high
		}
		n := 1 + r.IntN(3)
		cut := func(b []byte) []rune { text := []rune(string(b)); return text[:min(n, len(text))] }
		lower, end := []byte(string(cut(low))), cut(high)
		if len(end) == utf8.RuneCount(high) {
			return lower, high
		}
		for len(end) > 0 && end[len(end)-1] == utf8.MaxRune {
			end = end[:len(end)-1]
		}
		if len(end) == 0 {
			return lower, nil
		}
		end[len(end)-1]++
		if end[len(end)-1] == 0xd800 {
			end[len(end)-1] = 0xe000 // there are no surrogates in UTF-8
		}
		return lower, []byte(string(end))
	}
	return low, high
}

// rewriteBounds replaces all files of a table with copies that have other bounds and counts in the manifest.
func rewriteBounds(t *testing.T, r *rand.Rand, e tabletest.Engine) {
	t.Helper()
	var files, copies []iceberg.DataFile
	for _, task := range e.Files() {
		f := task.File
		path := strings.TrimPrefix(f.FilePath(), "file://")
		name := fmt.Sprintf("%s-%d.parquet", path, r.Uint64())
		must.Do(t, os.WriteFile(name, must.Get(os.ReadFile(path))(t), 0o600))
		lower, upper, nulls := f.LowerBoundValues(), f.UpperBoundValues(), f.NullValueCounts()
		for id := 2; id <= 5; id++ {
			low, high := foreignBounds(r, id == 2, lower[id], upper[id])
			lower[id], upper[id] = low, high
			if low == nil {
				delete(lower, id)
			}
			if high == nil {
				delete(upper, id)
			}
			if r.IntN(4) == 0 {
				delete(nulls, id)
			}
		}
		b := must.Get(datafile.Rebuild(*iceberg.UnpartitionedSpec, f, "file://"+name))(t)
		files, copies = append(files, f), append(copies, b.LowerBoundValues(lower).UpperBoundValues(upper).NullValueCounts(nulls).Build())
	}
	e.Commit(func(tx *table.Transaction) error {
		return tx.ReplaceDataFilesWithDataFiles(t.Context(), files, copies, nil, table.WithoutAutoNameMapping())
	})
}

// TestForeignBounds checks that filters, statements and deletes find the same rows in files with bounds of other
// programs as in a copy of the rows. Some bounds are older than a column's type, and have 4 bytes instead of 8.
func TestForeignBounds(t *testing.T) {
	r := rand.New(rand.NewPCG(randomSeed(t), 1)) //nolint:gosec // a test's
	s := newStore(t, nil)
	texts := []string{`"a"`, `"ab"`, `"abc\udbff\udfff"`, `"abcd"`, `""`, `"\ud7ff\ud7ffz"`, `"\udbff\udfff\udbff\udfff"`, `"\udbff\udfff\udbff\udfff\udbff\udfffz"`, `"b"`, "null"}
	numbers := []string{"-5", "-1", "0", "1", "2", "300", "null"}
	floats := []string{"-0.5", "-0.0", "0", "0.25", "7", `"NaN"`, `"+Inf"`, "null"}
	decimals := []string{`"-1.50"`, `"0.00"`, `"2.25"`, `"9999999.99"`, "null"}
	pick := func(of []string) string { return of[r.IntN(len(of))] }
	line := func(id int) string {
		return fmt.Sprintf(`{"id":%d,"s":%s,"n":%s,"x":%s,"d":%s}`, id, pick(texts), pick(numbers), pick(floats), pick(decimals))
	}
	condition := func() string {
		op := pick([]string{"=", "!=", "<", "<=", ">", ">="})
		switch r.IntN(6) {
		case 0:
			return "n " + op + " " + pick(numbers[:6])
		case 1:
			return "x " + op + " " + pick([]string{"-0.5", "0", "0.25", "100"}) + " and x < 1e30" // DuckDB's NaN is large
		case 2:
			return "d " + op + " " + pick([]string{"-1.5", "0", "2.25", "3"})
		case 3:
			return pick([]string{"s", "n", "x", "d"}) + pick([]string{" is null", " is not null"})
		case 4:
			return "s like '" + pick([]string{"a", "abc", "\ud7ff", "\U0010ffff\U0010ffff", ""}) + "%'"
		}
		return "s " + op + " '" + pick([]string{"", "a", "ab", "abc", "abcd", "\ud7ff\ud7ff", "\U0010ffff", "\U0010ffff\U0010ffff", "\U0010ffff\U0010ffff\U0010ffff"}) + "'"
	}
	id := 0
	fill := func(name, columns string) {
		for range 6 {
			var lines []string
			for range 1 + r.IntN(3) {
				lines, id = append(lines, line(id)), id+1
			}
			put(t, s, "b", name, jsonBatch(t, tabletest.ParseColumns(t, columns), strings.Join(lines, ",")))
			fold(t, s)
		}
	}
	for round := range tabletest.Rounds(t, "PARTD_TABLES_BOUNDS_ROUNDS", 2) {
		name := fmt.Sprint("t", round)
		fill(name, "id int64; s utf8; n int32; x float32; d decimal128(9, 2)")
		must.Do(t, s.Bucket("b").Table(name).Evolve(t.Context(), tables.ColumnChange{Op: "widen", Column: "n", Type: "int64"}, tables.ColumnChange{Op: "widen", Column: "x", Type: "float64"}))
		fill(name, "id int64; s utf8; n int64; x float64; d decimal128(9, 2)")
		e := tabletest.NewEngine(t, s, "b", name)
		rewriteBounds(t, r, e)
		all := must.Get(must.Get(s.Bucket("b").Table(name).At(t.Context()))(t).Scan(t.Context(), nil))(t)
		must.Get(s.Bucket("copies").Table(name).Put(t.Context(), all, tables.PutReplace, nil))(t)
		all.Release()
		ids := func(bucket, where string) (scanned, selected []string) {
			o := tabletest.Where(t, where, "id")
			scanned = strings.Split(tabletest.TableText(t, s.Bucket(bucket), name, o), " | ")
			selected = must.Get(rows(t, s, fmt.Sprintf("SELECT id FROM %s.%s WHERE %s ORDER BY id", bucket, name, where), nil))(t)
			slices.Sort(scanned)
			return scanned, selected
		}
		check := func(where string) {
			gotScanned, gotSelected := ids("b", where)
			wantScanned, wantSelected := ids("copies", where)
			if !slices.Equal(gotScanned, wantScanned) || !slices.Equal(gotSelected, wantSelected) {
				t.Errorf("%s: Scan finds %s, want %s; SELECT finds %s, want %s", where, gotScanned, wantScanned, gotSelected, wantSelected)
			}
		}
		for range 40 {
			check(condition())
		}
		for range 4 {
			where := condition()
			for _, bucket := range []string{"b", "copies"} {
				tabletest.DeleteRows(t, s.Bucket(bucket), name, where)
			}
			check("id >= 0")
		}
	}
}
