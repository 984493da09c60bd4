package records

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/textfmt"
)

// Ragged says what happens to CSV and TSV records with more or fewer fields than the header.
type Ragged uint8

// The values of Ragged.
const (
	RefuseRagged Ragged = iota // such records are bad
	FillRagged                 // short records get empty fields; longer records are bad
	CutRagged                  // short records get empty fields, and longer records lose their last fields
)

// Set parses the value of the flag --ragged.
func (r *Ragged) Set(text string) error {
	switch text {
	case "false":
		*r = RefuseRagged
	case "true", "fill":
		*r = FillRagged
	case "cut":
		*r = CutRagged
	default:
		return errors.New("use --ragged to fill short records, or --ragged=cut to cut longer ones too")
	}
	return nil
}

func (r Ragged) String() string { return [...]string{"false", "fill", "cut"}[r] }

// Type returns "bool", so that the flag's value is optional.
func (r *Ragged) Type() string { return "bool" }

// MarshalText implements [encoding.TextMarshaler].
func (r Ragged) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (r *Ragged) UnmarshalText(text []byte) error { return r.Set(string(text)) }

// Mended counts the records whose number of fields was corrected.
type Mended struct {
	Filled int64 // records with added empty fields
	Cut    int64 // records with removed fields
}

// Add adds the counts of o to m.
func (m *Mended) Add(o Mended) { m.Filled, m.Cut = m.Filled+o.Filled, m.Cut+o.Cut }

// String describes the counts, or returns "" if they are 0.
func (m Mended) String() string {
	var counts []string
	if m.Filled > 0 {
		counts = append(counts, textfmt.Plural(m.Filled, "short record")+" filled with empty fields")
	}
	if m.Cut > 0 {
		counts = append(counts, textfmt.Plural(m.Cut, "long record")+" cut")
	}
	return strings.Join(counts, ", ")
}

// mends reports whether a record with n fields must be mended.
func (s *Splitter) mends(n int) bool {
	return s.fieldCount > 0 && (n < s.fieldCount && s.layout.Ragged != RefuseRagged || n > s.fieldCount && s.layout.Ragged == CutRagged)
}

// mend sets Whole to Record with the right number of fields. n is the number of fields in Record, and keptEnd is the
// index in Record at which the last field to keep ends. If the splitter has added too many bytes since the last
// Feed, mend sets Err and returns false, because callers may keep all records of a block in memory.
func (s *Splitter) mend(n, keptEnd int) bool {
	ending := s.Record[lineEnd(s.Record):]
	missing := max(s.fieldCount-n, 0)
	s.filledBytes += missing
	if s.maxFilled > 0 && s.filledBytes > s.maxFilled {
		s.Err = fmt.Errorf("%w: the empty fields that fill short records up to here have more than %d bytes "+
			"in a part of the file: increase --memory", partd.ErrTooLarge, s.maxFilled)
		return false
	}
	whole := append(s.reserve(keptEnd+missing+len(ending)), s.Record[:keptEnd]...)
	for range missing {
		whole = append(whole, s.sep[0])
	}
	s.Whole = s.commit(append(whole, ending...))
	if missing > 0 {
		s.Mended.Filled++
	} else {
		s.Mended.Cut++
	}
	return true
}

// mendPlain is mend for a record without quotes, whose text without the line ending is line. It returns the text of
// Whole without the line ending.
func (s *Splitter) mendPlain(line []byte, n int) ([]byte, bool) {
	keptEnd := len(line)
	for k := n; k > s.fieldCount; k-- {
		keptEnd = bytes.LastIndexByte(line[:keptEnd], s.sep[0])
	}
	if !s.mend(n, keptEnd) {
		return nil, false
	}
	return s.Whole[:lineEnd(s.Whole)], true
}

// lineEnd returns the index at which the line ending of a record begins.
func lineEnd(record []byte) int {
	end := len(record) - 1
	if end > 0 && record[end-1] == '\r' {
		end--
	}
	return end
}
