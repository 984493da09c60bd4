package records

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestColumns checks that NextColumns and Next together return the same fields and counts as Next, and that
// UndoColumns returns to the records before.
func TestColumns(t *testing.T) {
	byColumns, undone := 0, 0
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 7))
		layout := Layout{Format: []Format{CSV, TSV}[seed%2], NoHeader: true}
		pieces := []string{"a", "bc", "\r", "a longer field", "", "\x00"}
		if layout.Format == CSV && seed%4 == 0 {
			pieces = append(pieces, `"x"`, "\"y\n\"")
		}
		n, sep := 1+r.IntN(4), string(layout.Separator())
		var b strings.Builder
		for range r.IntN(400) {
			fields := n
			if seed%3 == 0 && r.IntN(20) == 0 {
				fields = r.IntN(6)
			}
			for i := range fields {
				b.WriteString(strings.Repeat(sep, min(i, 1)) + pieces[r.IntN(len(pieces))])
			}
			b.WriteString("\n")
		}
		cfg := Config{Layout: layout, Fields: []Field{{Index: n - 1}, {Index: 0}}, Block: 1 << 14, MaxRecord: 1 << 20, SkipBad: true}
		columns := NewColumns(2, 100)
		read := func(next func(b *Block) int) (rows []string, tally Tally, err error) {
			tally, err = Read(t.Context(), []Input{input("f", b.String())}, cfg, func(b *Block) error {
				for single := 0; ; {
					if single == 0 {
						k := next(b)
						for i := range k {
							rows = append(rows, string(columns.Data[columns.From[0][i]:columns.To[0][i]])+sep+string(columns.Data[columns.From[1][i]:columns.To[1][i]]))
						}
						if byColumns += k; k > 0 && r.IntN(4) == 0 {
							rows = rows[:len(rows)-k]
							b.UndoColumns()
							single, undone = k, undone+1
						} else if k == 0 {
							single = 1
						}
						continue
					}
					if single--; !b.Next() {
						return nil
					}
					rows = append(rows, string(b.Fields[0])+sep+string(b.Fields[1]))
				}
			})
			return rows, tally, err
		}
		want, wantTally, wantErr := read(func(*Block) int { return 0 })
		got, tally, err := read(func(b *Block) int { return b.NextColumns(columns, 1+r.IntN(100)) })
		if (err == nil) != (wantErr == nil) || err == nil && (!slices.Equal(got, want) || tally.Records != wantTally.Records ||
			tally.BadRecords != wantTally.BadRecords || !tally.Accounted() || wantTally.FirstBadErr != nil && tally.FirstBadErr.Error() != wantTally.FirstBadErr.Error()) {
			t.Fatalf("%q:\n got %q, %+v, %v\nwant %q, %+v, %v", b.String(), got, tally, err, want, wantTally, wantErr)
		}
	}
	if byColumns < 100_000 || undone < 1000 {
		t.Errorf("NextColumns returned %d records, and %d calls were undone; the test needs more", byColumns, undone)
	}
}

// Nulls are found in records that NextColumns splits, in those that Next splits, and only in fields that ask for it.
func TestNullsInColumns(t *testing.T) {
	var data strings.Builder
	want := map[string]int{}
	for i := range 1000 {
		row, value := "NA,x\n", "NA|"
		switch {
		case i%3 == 1:
			row, value = "1,NA\n", "1|1"
		case i%50 == 0:
			row, value = "\"NA\",x\n", "NA|NA"
		}
		data.WriteString(row)
		want[value]++
	}
	in := Input{Name: "f.csv", Size: -1, Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(data.String())), nil }}
	cfg := Config{
		Layout: Layout{Format: CSV, NoHeader: true, Values: &Values{Nulls: []string{"-", "NA"}}},
		Fields: []Field{{Index: 0}, {Index: 0, Null: true}}, Block: 64 << 10, MaxRecord: 64 << 10,
	}
	got := map[string]int{}
	inColumns := 0
	_, err := Read(t.Context(), []Input{in}, cfg, func(b *Block) error {
		c := NewColumns(2, 64)
		for more := true; more; {
			n := b.NextColumns(c, 64)
			for i := range n {
				got[fmt.Sprintf("%s|%s", c.Data[c.From[0][i]:c.To[0][i]], c.Data[c.From[1][i]:c.To[1][i]])]++
			}
			inColumns += n
			more = n > 0
			if !more && b.Next() {
				got[fmt.Sprintf("%s|%s", b.Fields[0], b.Fields[1])]++
				more = true
			}
		}
		return nil
	})
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) || inColumns < 500 {
		t.Errorf("values %v, want %v; %d records in columns; error %v", got, want, inColumns, err)
	}
}

func TestAppendNumber(t *testing.T) {
	comma, swiss, nbsp := &Values{Decimal: ",", Thousands: "."}, &Values{Thousands: "'"}, &Values{Decimal: ",", Thousands: "\u00a0"}
	for _, test := range []struct {
		values      *Values
		field, want string
	}{
		{comma, "1.234,5", "1234.5"},
		{comma, "-1.234.567", "-1234567"},
		{comma, " +0,5e-3 ", "+0.5e-3"},
		{comma, ",5", ".5"},
		{comma, "5,", "5."},
		{comma, "1234567,25", "1234567.25"},
		{comma, "12", "12"},
		{comma, "", ""},
		{swiss, "1'234'567.5", "1234567.5"},
		{swiss, "1.5", "1.5"},
		{nbsp, "1\u00a0234,5", "1234.5"},
		// Other texts are not numbers afterwards.
		{comma, "1.5", "1.5 (wrong decimal mark)"},
		{comma, "1.2345", "1.2345 (wrong decimal mark)"},
		{comma, "1234.567", "1234.567 (wrong decimal mark)"},
		{comma, ".123", ".123 (wrong decimal mark)"},
		{comma, "1.234e", "1.234e (wrong decimal mark)"},
		{comma, "12.34.567,8", "12.34.567,8"},
		{comma, "1,234.5", "1,234.5"},
		{comma, "1,2,3", "1,2,3"},
		{comma, ",", ","},
		{comma, "-", "-"},
		{comma, "e5", "e5"},
		{comma, "n.a.", "n.a."},
		{swiss, "12'34", "12'34"},
		{swiss, "1.5'000", "1.5'000"},
		{swiss, "'123", "'123"},
	} {
		if got := test.values.AppendNumber([]byte("x"), []byte(test.field)); string(got) != "x"+test.want {
			t.Errorf("AppendNumber of %q with %+v: got %q, want %q", test.field, *test.values, got, "x"+test.want)
		}
	}
}
