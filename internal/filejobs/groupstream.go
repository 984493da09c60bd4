package filejobs

import "slices"

// streams reports whether a list is too long for memory.
func (r *groupRow) streams() bool {
	return slices.ContainsFunc(r.lists, func(s *spool) bool { return s != nil && s.size > 0 })
}

// stream writes a row with a list that is too long for memory.
func (r *groupRow) stream(w *sink) error {
	for i := range r.row {
		var err error
		if r.out, err = r.rows.AppendStart(r.out[:0], i); err != nil {
			return err
		}
		var s *spool
		if k := i - r.g.keys; k >= 0 {
			s = r.lists[k]
		}
		if s == nil || s.size == 0 {
			if r.out, err = r.rows.AppendField(r.out, i, &r.row[i]); err == nil {
				_, err = w.Write(r.out)
			}
		} else {
			err = r.streamList(w, i, s)
		}
		if err != nil {
			return err
		}
	}
	_, err := w.Write(r.rows.AppendEnd(r.out[:0]))
	return err
}

// streamList writes a list that is too long for memory, after what r.out holds.
func (r *groupRow) streamList(w *sink, i int, s *spool) error {
	if r.json {
		s.buf = append(s.buf, ']')
	}
	r.out = r.rows.AppendQuote(r.out)
	err := s.pieces(func(p []byte) error {
		var err error
		if r.out, err = r.rows.AppendPiece(r.out, i, p); err != nil {
			return err
		}
		_, err = w.Write(r.out)
		r.out = r.out[:0]
		return err
	})
	if err != nil {
		return err
	}
	_, err = w.Write(r.rows.AppendQuote(r.out))
	return err
}
