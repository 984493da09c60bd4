package records

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

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
