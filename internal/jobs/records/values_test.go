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
