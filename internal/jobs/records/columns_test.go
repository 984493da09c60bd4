package records

import (
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
