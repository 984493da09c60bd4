package filejobs

import (
	"fmt"

	"github.com/go-partd/partd/internal/aggregate"
	"github.com/go-partd/partd/internal/textfmt"
)

// look is what the first values of a field look like.
type look struct {
	seen   int
	other  bool // one is no number
	length int  // of the first
	uneven bool // the order of bytes may be another than that of the numbers
}

// look looks at the fields of a record that are compared as bytes.
func (s *sortEngine) look(worker int, fields [][]byte) {
	const enough = 1000
	for i := range s.looks[worker] {
		l, v := &s.looks[worker][i], fields[i]
		if l.seen == enough || l.other || s.orders[i].numeric || len(v) == 0 {
			continue
		}
		if l.seen++; l.seen == 1 {
			l.length = len(v)
		}
		_, ok := aggregate.ParseNumber(v)
		l.other = !ok
		l.uneven = l.uneven || len(v) != l.length || v[0] == '-'
	}
}

// notes says which fields look like numbers and were compared as bytes.
func (s *sortEngine) notes() (notes []string) {
	for i, name := range s.names {
		var all look
		for _, l := range s.looks {
			all.other = all.other || l[i].other
			all.uneven = all.uneven || l[i].uneven || l[i].seen > 0 && all.seen > 0 && l[i].length != all.length
			if l[i].seen > 0 {
				all.seen, all.length = l[i].seen, l[i].length
			}
		}
		if all.uneven && !all.other {
			notes = append(notes, fmt.Sprintf("the values of %s look like numbers, and were compared as bytes: --by %s:n compares numbers", quoteShort([]byte(name)), textfmt.ShellQuote(name)))
		}
	}
	return notes
}
