package page

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestNanosecondsWithZone checks that nanosecond times with a zone, a type that SQL lacks, are read exactly from the
// tail (rows not yet in data files) and from data files. In conditions, their precision is microseconds, as in SQL.
func TestNanosecondsWithZone(t *testing.T) {
	s := serve(t, flightd.Options{})
	zoned := func(zone string) arrow.DataType { return &arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: zone} }
	columns := arrow.NewSchema([]arrow.Field{
		{Name: "k", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "ts", Type: zoned("UTC"), Nullable: true},
		{Name: "new\n\"york", Type: zoned("America/New_York"), Nullable: true},
		{Name: "partd_exact_0", Type: arrow.PrimitiveTypes.Uint8, Nullable: true},
		{Name: "l", Type: arrow.ListOf(zoned("UTC")), Nullable: true},
		{Name: "s", Type: arrow.StructOf(
			arrow.Field{Name: "u", Type: arrow.PrimitiveTypes.Uint64, Nullable: true},
			arrow.Field{Name: "plain", Type: zoned(""), Nullable: true},
			arrow.Field{Name: "at", Type: zoned("UTC"), Nullable: true},
		), Nullable: true},
	}, nil)
	const count = 40
	at := func(k int) string { return fmt.Sprintf("2023-01-31 01:02:03.123456%03dZ", 101+10*((k*17+5)%count)) } // all within one microsecond
	put := func(name string) {
		var rows strings.Builder
		for k := range count {
			fmt.Fprintf(&rows, `{"k":%d,"ts":%q,"new\n\"york":%[2]q,"partd_exact_0":1,"l":[%[2]q,null],"s":{"u":18446744073709551615,"plain":%q,"at":%[2]q}}`, k, at(k), strings.TrimSuffix(at(k), "Z"))
		}
		rows.WriteString(`{"k":40,"ts":"1969-12-31 23:59:59.999999999Z"}{"k":41}`)
		batch, _, err := array.RecordFromJSON(memory.DefaultAllocator, columns, strings.NewReader(rows.String()), array.WithMultipleDocs())
		must.Do(t, err)
		tabletest.PutRows(t, s.store.Bucket("B"), name, tabletest.OneBatch(batch), tables.PutAppend, nil)
	}
	put("files")
	must.Get(s.store.Fold(t.Context(), nil))(t)
	put("tail")
	get := func(path, table string, more ...string) (text, total string) {
		t.Helper()
		v := url.Values{"bucket": {"B"}, "table": {table}}
		for i := 0; i < len(more); i += 2 {
			v.Set(more[i], more[i+1])
		}
		a, text := s.wantGet(path+"?"+v.Encode(), 200)
		return text, a.Header.Get("X-Partd-Rows")
	}
	for _, table := range []string{"files", "tail"} {
		for format, want := range map[string]string{
			"csv":   "0,2023-01-31T01:02:03.123456151Z,2023-01-31T01:02:03.123456151Z,1,",
			"jsonl": `"ts":"2023-01-31T01:02:03.123456151Z"`,
		} {
			if text, _ := get("/api/download", table, "format", format, "sort", "k"); !strings.Contains(text, want) {
				t.Errorf("download as %s: got %.500s, want it to contain %s", format, text, want)
			}
		}
		text, _ := get("/api/download", table, "format", "arrow", "sort", "k")
		for _, c := range []struct{ name, want, last string }{
			{"ts", at(0), "1969-12-31 23:59:59.999999999Z"},
			{"new\n\"york", at(0), "(null)"},
			{"l", `["` + at(0) + `",null]`, "(null)"},
			{"s", `{"at":"` + at(0) + `","plain":"` + strings.TrimSuffix(at(0), "Z") + `","u":18446744073709551615}`, "(null)"},
		} {
			got := column(t, text, c.name)
			plain := strings.NewReplacer(" ", "", "T", "")
			if len(got) != count+2 || plain.Replace(got[0]) != plain.Replace(c.want) || plain.Replace(got[count]) != plain.Replace(c.last) {
				t.Errorf("column %s: got first value %s and last value %s, want %s and %s", c.name, got[0], got[count], c.want, c.last)
			}
		}
		for _, sort := range []string{"ts", "-ts"} {
			var all []string
			for offset := 0; offset < count+2; offset += 7 {
				text, _ := get("/api/rows", table, "sort", sort, "limit", "7", "offset", fmt.Sprint(offset))
				all = append(all, column(t, text, "ts")...)
			}
			if sort == "-ts" {
				slices.Reverse(all)
			}
			if len(all) != count+2 || all[count+1] != "(null)" || !slices.IsSorted(all[:count+1]) || all[1] == all[2] {
				t.Errorf("table %s is not sorted by %s: %v", table, sort, all)
			}
		}
		for filter, want := range map[string]string{
			`ts = TIMESTAMPTZ '2023-01-31 01:02:03.123456Z'`:                                   "40",
			`hour(ts AT TIME ZONE 'America/New_York') = 20`:                                    "40",
			`hour(l[1] AT TIME ZONE 'America/New_York') = 20 AND "new` + "\n" + `""york" = ts`: "40",
			`hour(s.at AT TIME ZONE 'America/New_York') = 20 AND s.plain > '2000-01-01'`:       "40",
			`ts < TIMESTAMPTZ '1970-01-01 00:00:00Z'`:                                          "",
			`partd_exact_0 IS NULL`:                                                            "2",
		} {
			text, total := get("/api/rows", table, "filter", filter)
			if n := len(column(t, text, "ts")); fmt.Sprint(n) != total || want != "" && total != want {
				t.Errorf("filter %s: got %d rows, total %s, want %s", filter, n, total, want)
			}
		}
		s.wantGet("/api/rows?"+url.Values{"bucket": {"B"}, "table": {table}, "filter": {"k = 1\nAND wrong = 2"}}.Encode(), 400, `"line":2`)
	}
}

// TestKeepsZones checks that the rows of a table keep its time zones, in the grid and in downloads.
func TestKeepsZones(t *testing.T) {
	s := serve(t, flightd.Options{})
	columns := arrow.NewSchema([]arrow.Field{
		{Name: "here", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "America/New_York"}, Nullable: true},
		{Name: "utc", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, Nullable: true},
		{Name: "plain", Type: &arrow.TimestampType{Unit: arrow.Microsecond}, Nullable: true},
	}, nil)
	text := `{"here":"2023-01-31 01:02:03Z","utc":"2023-01-31 01:02:03Z","plain":"2023-01-31 01:02:03"}`
	batch := tabletest.ParseRows(t, columns, "["+text+"]")
	tabletest.PutRows(t, s.store.Bucket("B"), "t", tabletest.OneBatch(batch), tables.PutError, nil)
	for _, path := range []string{"rows?bucket=B&table=t", "rows?bucket=B&table=t&sort=-here&filter=here+%3E+%272020-01-01%27", "download?bucket=B&table=t&format=parquet", "download?bucket=B&table=t&format=arrow"} {
		_, body := s.get("/api/" + path)
		var got *arrow.Schema
		if strings.Contains(path, "parquet") {
			file := must.Get(file.NewParquetReader(strings.NewReader(body)))(t)
			reader := must.Get(pqarrow.NewFileReader(file, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator))(t)
			got = must.Get(reader.Schema())(t)
		} else {
			got = must.Get(ipc.NewReader(strings.NewReader(body)))(t).Schema()
		}
		for i, f := range columns.Fields() {
			if got := got.Field(i).Type; !arrow.TypeEqual(got, f.Type) {
				t.Errorf("%s: column %s has type %s, want %s", path, f.Name, got, f.Type)
			}
		}
	}
	if _, got := s.get("/api/download?bucket=B&table=t&format=csv"); got != "here,utc,plain\n2023-01-30T20:02:03-05:00,2023-01-31T01:02:03Z,2023-01-31T01:02:03\n" {
		t.Errorf("the CSV file is %q, want times with the offset of their zone", got)
	}
}
