//go:build cgo

package duck_test

import (
	"fmt"
	"math"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
)

// TestDataFusion runs the functions that, according to docs/sql.md, work as in DataFusion, and compares their results
// with DataFusion's.
func TestDataFusion(t *testing.T) {
	python := procs.Python(t, "datafusion")
	var statements []string
	for _, stride := range []string{"INTERVAL '15 minutes'", "'15 minutes'", "INTERVAL '1 day'", "INTERVAL '1 month'", "INTERVAL '3 months'", "INTERVAL '1 week'", "INTERVAL '2 years'"} {
		for _, timestamp := range []string{"2023-01-01 18:18:18", "1960-03-31 00:00:00", "2024-02-29 23:59:59", "2022-12-15 00:00:00", "2022-12-14 23:59:59"} {
			statements = append(statements, fmt.Sprintf("SELECT date_bin(%s, TIMESTAMP '%s')", stride, timestamp),
				fmt.Sprintf("SELECT date_bin(%s, TIMESTAMP '%s', TIMESTAMP '2022-12-15 01:00:00')", stride, timestamp))
		}
	}
	for _, f := range []string{"to_timestamp", "to_timestamp_seconds", "to_timestamp_millis", "to_timestamp_micros", "to_timestamp_nanos"} {
		for _, x := range []string{
			"0", "1", "-1", "1700000000", "1.5", "-1.5", "NULL", "'2023-01-31T09:26:56.123456789'", "'2023-01-31T09:26:56.123456789+05:00'", "'2023-01-31 09:26:56Z'",
			"'2023-01-31'", "'1969-12-31T23:59:58.5'", "TIMESTAMP '2023-01-31 09:26:56'", "'foo'", "9223372036",
		} {
			statements = append(statements, fmt.Sprintf("SELECT %s(%s)", f, x))
		}
	}
	for _, x := range []string{"1::BIGINT", "1::INT", "1::SMALLINT", "1::TINYINT", "1.5::DOUBLE", "1.5::FLOAT", "'a'", "'a' || 'b'", "true", "NULL", "DATE '2024-01-01'", "1.5::DECIMAL(10, 2)", "sum(1)", "count(*)", "to_timestamp(0)", "to_timestamp_seconds(0)", "INTERVAL '1 day'"} {
		statements = append(statements, fmt.Sprintf("SELECT arrow_typeof(%s)", x))
	}
	statements = append(statements, "SELECT arrow_typeof([1::BIGINT, 2])", "SELECT arrow_typeof([['a'], []])", "SELECT arrow_typeof(t) FROM (VALUES ('x')) AS v(t)")
	exactCount := len(statements)
	for _, p := range []string{"0.1", "0.5", "0.9", "0.99"} {
		statements = append(statements, fmt.Sprintf("SELECT approx_percentile_cont(value, %s) FROM generate_series(0, 9999)", p),
			fmt.Sprintf("SELECT approx_percentile_cont(value * 0.5, %s, 200) FROM generate_series(0, 9999)", p))
	}
	cmd := exec.Command(python, "testdata/datafusion_peer.py")
	cmd.Stdin = strings.NewReader(strings.Join(statements, "\n"))
	want := strings.Split(strings.TrimSpace(string(must.Get(cmd.Output())(t))), "\n")
	if len(want) != len(statements) {
		t.Fatalf("DataFusion returned %d results for %d statements", len(want), len(statements))
	}
	s := newStore(t, nil)
	for i, sql := range statements {
		wantValue, wantType, _ := strings.Cut(want[i], "|")
		if strings.Contains(wantValue, ":") { // a time, which DataFusion prints with trailing zeros
			wantValue = strings.TrimSuffix(strings.TrimRight(wantValue, "0"), ".")
			wantValue += "00:00:00"[len("00:00:00")-max(0, len("2006-01-02 15:04:05")-len(wantValue)):]
		}
		gotValue, gotType := singleValue(t, s, strings.Replace(sql, "generate_series(0, 9999)", "(SELECT range AS value FROM range(10000))", 1))
		switch {
		case i >= exactCount:
			a, aerr := strconv.ParseFloat(gotValue, 64)
			b, berr := strconv.ParseFloat(wantValue, 64)
			if aerr != nil || berr != nil || math.Abs(a-b) > 100 {
				t.Errorf("%s: got %s, DataFusion returned %s", sql, gotValue, wantValue)
			}
		case gotValue != wantValue:
			t.Errorf("%s: got %s, DataFusion returned %s", sql, gotValue, wantValue)
		case strings.Contains(sql, "SELECT to_timestamp") && wantValue != "error" && gotType != wantType:
			t.Errorf("%s: got type %s, DataFusion returned %s", sql, gotType, wantType)
		}
	}
}

// TestNestedMacros checks that nested macros are not expanded exponentially, which no interrupt could stop.
func TestNestedMacros(t *testing.T) {
	s := newStore(t, nil)
	for _, c := range []struct{ prefix, suffix, argument, want string }{
		{"arrow_typeof(", ")", "[1.5::DECIMAL(10, 2)]", "Utf8"},
		{"to_timestamp_millis(", ")", "'2020-01-01'", "2020-01-01 00:00:00"},
		{"('a' LIKE ", ")::VARCHAR", "'a'", "false"},
		{"((SELECT 'a' ILIKE ", "))::VARCHAR", "'a'", "false"},
	} {
		for _, levels := range []int{3, 7} {
			start, want := time.Now(), c.want
			if levels > 3 {
				want = "error"
			}
			got, _ := singleValue(t, s, "SELECT "+strings.Repeat(c.prefix, levels)+c.argument+strings.Repeat(c.suffix, levels))
			if got != want || time.Since(start) > 20*time.Second {
				t.Errorf("%s nested %d times: got %s after %v, want %s", c.prefix, levels, got, time.Since(start), want)
			}
		}
	}
}

// singleValue returns the single value of a result, formatted as DataFusion does, and its type.
func singleValue(t *testing.T, s *tables.Store, sql string) (value, typeName string) {
	r, err := s.Query(t.Context(), sql, nil)
	if err != nil {
		return "error", ""
	}
	defer r.Release()
	if !r.Next() {
		return "error", ""
	}
	c := r.RecordBatch().Column(0)
	if c.IsNull(0) {
		return "None", c.DataType().String()
	}
	value = strings.Clone(c.ValueStr(0))
	if day, clock, ok := strings.Cut(value, "T"); ok && strings.Contains(clock, ":") {
		value = day + " " + clock
	}
	return value, c.DataType().String()
}
