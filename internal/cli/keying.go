package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/output"
	"github.com/go-partd/partd/internal/records"
	"github.com/go-partd/partd/logstore"
)

// splitNames returns the fields that a flag such as --by lists: the names or
// numbers between commas, with a name in quotes where it holds a comma, as in a
// line of CSV. A text that is the name of a column as a whole is that column.
func splitNames(list string, columns []string) ([]string, error) {
	if slices.Contains(columns, list) {
		return []string{list}, nil
	}
	var names []string
	for rest, more := list, true; more; {
		quoted := ""
		if strings.HasPrefix(rest, `"`) {
			end := closingQuote(rest)
			if end < 0 {
				return nil, fmt.Errorf("%q lists a field with a quote that is never closed", list)
			}
			quoted, rest = strings.ReplaceAll(rest[1:end], `""`, `"`), rest[end+1:]
		}
		var plain string
		plain, rest, more = strings.Cut(rest, ",")
		if quoted+plain == "" && (more || len(names) > 0) {
			return nil, fmt.Errorf("%q lists a field without a name", list)
		}
		names = append(names, quoted+plain)
	}
	return names, nil
}

// closingQuote finds the quote that ends a text that begins with one, -1 for
// none. Quotes written twice are part of the text.
func closingQuote(text string) int {
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] != '"':
		case i+1 < len(text) && text[i+1] == '"':
			i++
		default:
			return i
		}
	}
	return -1
}

// resolveBy finds the fields that --by lists.
func resolveBy(by string, layout records.Layout, columns []string) ([]records.Field, error) {
	names, err := splitNames(by, columns)
	if err != nil {
		return nil, err
	}
	var fields []records.Field
	for _, name := range names {
		f, err := layout.Resolve(name, columns)
		if err != nil {
			return nil, err
		}
		fields = append(fields, f)
	}
	return fields, nil
}

// keyer makes the key in a store of the fields of a record.
type keyer struct {
	partitions int // > 0: the key is the number of one of so many partitions
}

// entryList is the records of a block as entries of a store.
type entryList struct {
	entries []partd.Entry
	arena   []byte   // keys that are no part of the input
	numbers []string // of the partitions

	proves bool // the sum is wanted
	sum    logstore.Sum128
	hashed []byte
}

// fill makes an entry of each record of a block, valid as long as the block.
func (l *entryList) fill(b *records.Block, k keyer) {
	l.entries, l.arena = l.entries[:0], l.arena[:0]
	for i := len(l.numbers); i < k.partitions; i++ {
		l.numbers = append(l.numbers, strconv.Itoa(i))
	}
	defer func() {
		for i := 0; l.proves && i < len(l.entries); i++ {
			l.addToSum(&l.entries[i])
		}
	}()
	for b.Next() {
		key := b.Fields[0]
		if len(b.Fields) > 1 {
			key = l.join(b.Fields)
		}
		if k.partitions > 0 {
			n := xxh3.Hash(key) % uint64(k.partitions)
			l.entries = append(l.entries, partd.Entry{Key: l.numbers[n], Value: b.Record})
			continue
		}
		if len(key) > partd.MaxKeyLen {
			b.Bad(fmt.Errorf("%w: the key has %d bytes, the limit is %d", partd.ErrTooLarge, len(key), partd.MaxKeyLen))
			continue
		}
		l.entries = append(l.entries, partd.Entry{Key: unsafe.String(unsafe.SliceData(key), len(key)), Value: b.Record})
	}
}

// join returns the key of several fields. What the arena held before it grew
// stays valid.
func (l *entryList) join(fields [][]byte) []byte {
	most := len(fields)
	for _, f := range fields {
		most += 2*len(f) + 2
	}
	if cap(l.arena)-len(l.arena) < most {
		l.arena = make([]byte, 0, max(2*cap(l.arena), most, 64<<10))
	}
	from := len(l.arena)
	l.arena = appendCSV(l.arena, fields, ',')
	return l.arena[from:]
}

// appendCSV appends fields as a record of CSV has them, without a line ending.
func appendCSV(dst []byte, fields [][]byte, sep byte) []byte {
	for i, f := range fields {
		if i > 0 {
			dst = append(dst, sep)
		}
		dst = output.AppendCSV(dst, f, sep)
	}
	return dst
}
