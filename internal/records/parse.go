package records

import (
	"fmt"
	"unsafe"

	"github.com/go-partd/partd"
)

// parse finds the records in what was read and not parsed yet.
func (r *reader) parse(in *Input, final bool) error {
	s, t := r.split, &r.tally
	s.Feed(r.block[r.start:], final)
	for {
		kind := s.Next()
		n := int64(len(s.Record))
		switch kind {
		case More:
			r.start += s.Pos()
			return nil
		case Data:
			// The key lies in the block or in the splitter's arena, neither of which
			// is written to before use returns.
			r.entries = append(r.entries, partd.Entry{Key: unsafe.String(unsafe.SliceData(s.Key), len(s.Key)), Value: s.Record})
			t.Records++
			t.RecordBytes += n
			if len(r.entries) == cap(r.entries) {
				if err := r.handOver(); err != nil {
					return err
				}
			}
		case Header:
			t.HeaderBytes += n
			if diff := DiffColumns(r.cfg.Columns, s.Columns); diff != "" {
				return &Error{in.Name, s.Line, fmt.Errorf("the header is not the one expected: %s", diff)}
			}
		case Blank:
			t.BlankLines++
			t.BlankBytes += n
		case Bad:
			t.BadRecords++
			t.BadBytes += n
			bad := &Error{in.Name, s.Line, &BadError{s.Err}}
			if !r.cfg.SkipBad {
				return bad
			}
			if t.FirstBad == nil {
				t.FirstBad = bad
			}
		case Broken:
			return &Error{in.Name, s.Line, s.Err}
		}
	}
}

// BadError says why the key of a record cannot be found.
type BadError struct{ Err error }

func (e *BadError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *BadError) Unwrap() error { return e.Err }

// handOver hands over the entries of a block of which more follow.
func (r *reader) handOver() error {
	if err := r.send(batch{entries: r.entries}); err != nil {
		return err
	}
	return r.nextList()
}
