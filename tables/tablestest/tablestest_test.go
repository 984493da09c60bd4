package tablestest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/tablestest"
)

var trades = arrow.NewSchema([]arrow.Field{
	{Name: "sym", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "price", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "at", Type: arrow.FixedWidthTypes.Timestamp_us, Nullable: true},
}, nil)

// recordingTB is a testing.TB that records why it failed, and then panics to stop the test.
type recordingTB struct {
	testing.TB
	message string
}

func (f *recordingTB) Fatal(args ...any) { f.Fatalf("%s", fmt.Sprint(args...)) }
func (f *recordingTB) Fatalf(format string, a ...any) {
	f.message = fmt.Sprintf(format, a...)
	panic(f)
}

func (f *recordingTB) run(do func(t testing.TB)) (message string) {
	defer func() {
		if p := recover(); p != nil && p != f {
			panic(p)
		}
		message = f.message
	}()
	do(f)
	return ""
}

func TestRows(t *testing.T) {
	s := tablestest.Open(t, nil)
	b := s.Bucket("B")
	tablestest.Put(t, b, "trades", trades, `[{"sym":"A","price":1.5,"n":9007199254740993,"at":"2026-01-02T03:04:05Z"}, {"sym":"B"}]`)
	tablestest.Put(t, b, "trades", nil, `[{"sym":"B"}]`)
	tablestest.Expect(t, b, "trades", `[{"sym":"B"}, {"sym":"A","price":1.5,"n":9007199254740993,"at":"2026-01-02T03:04:05Z"}, {"sym":"B","price":null}]`)
	tablestest.Put(t, b, "empty", trades, `[]`)
	tablestest.Expect(t, b, "empty", `[]`)
	for rows, want := range map[string]string{
		`[{"sym":"B"}, {"sym":"B"}]`: `has 0 missing (-) and 1 unexpected (+) rows:
+ {"at":`,
		`[{"sym":"B"}, {"sym":"B"}, {"sym":"B"}]`: `has 1 missing (-) and 1 unexpected (+) rows:
- {"at":null,"n":null,"price":null,"sym":"B"}
+ {"at":`,
		`[{"sym":"B"}, {"sym":"B"}, {"sym":"A","price":1.5,"n":9007199254740992,"at":"2026-01-02T03:04:05Z"}]`: `9007199254740992`,
		`[{`: "EOF",
	} {
		f := &recordingTB{TB: t}
		if got := f.run(func(t testing.TB) { tablestest.Expect(t, b, "trades", rows) }); !strings.Contains(got, want) {
			t.Errorf("Expect(%s) failed with %q, want %q", rows, got, want)
		}
	}
	for _, do := range []func(t testing.TB){
		func(t testing.TB) { tablestest.Expect(t, b, "none", `[]`) },
		func(t testing.TB) { tablestest.Put(t, b, "none", nil, `[]`) },
		func(t testing.TB) { tablestest.Put(t, b, "trades", trades, `[{"price":"x"}]`) },
	} {
		f := &recordingTB{TB: t}
		if got := f.run(do); got == "" {
			t.Error("the call succeeded, want a test failure")
		}
	}
}
