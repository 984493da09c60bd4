package records

import "fmt"

const mark = "\uFEFF"

// begin takes the byte order mark and the header that a file may begin with. It
// returns false if what was read so far does not hold the whole header, and not
// the whole file either.
func (r *reader) begin(eof bool) (bool, error) {
	s, t := r.split, &r.tally
	from := r.start
	if rest := r.block[from:]; len(rest) >= len(mark) && string(rest[:len(mark)]) == mark {
		from += len(mark)
	}
	if !r.cfg.Layout.HasHeader() {
		t.HeaderBytes += int64(from - r.start)
		r.start = from
		return true, nil
	}
	s.Begin()
	s.Feed(r.block[from:], eof)
	var lines, blank int64
	for {
		switch kind := s.Next(); kind {
		case More:
			if !eof {
				return false, nil
			}
			// Nothing but empty lines: a block counts them.
			t.HeaderBytes += int64(from - r.start)
			r.start = from
			return true, nil
		case Blank:
			lines++
			blank += int64(len(s.Record))
			continue
		case Header:
			if diff := DiffColumns(r.cfg.Columns, s.Columns); diff != "" {
				r.errLine = s.Line
				return false, fmt.Errorf("the header is not the one expected: %s", diff)
			}
			t.BlankLines += lines
			t.BlankBytes += blank
			t.HeaderBytes += int64(from-r.start+s.Pos()) - blank
			r.start = from + s.Pos()
			r.skipped = s.lines
			return true, nil
		default:
			r.errLine = s.Line
			return false, s.Err
		}
	}
}

// countFields finds out how many fields the records have, where no header tells.
func (r *reader) countFields(data []byte) {
	l := r.cfg.Layout
	if r.split.count != 0 || l.Format != CSV && l.Format != TSV {
		return
	}
	r.split.Feed(data, true)
	for r.split.count == 0 {
		if kind := r.split.Next(); kind == More || kind == Broken {
			return
		}
	}
}
