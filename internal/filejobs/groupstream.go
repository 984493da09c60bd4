package filejobs

// writeFields writes the row. What is too long for memory goes out piece by piece.
func (r *groupRow) writeFields(w *sink) (err error) {
	r.out = r.out[:0]
	for i := range r.row {
		if r.out, err = r.rows.AppendStart(r.out, i); err != nil {
			return err
		}
		if k := i - r.g.keys; k >= 0 && r.lists[k] != nil && r.lists[k].size > 0 {
			err = r.streamList(w, i, r.lists[k])
		} else {
			r.out, err = r.rows.AppendField(r.out, i, &r.row[i])
		}
		if err != nil {
			return err
		}
	}
	r.out = r.rows.AppendEnd(r.out)
	_, err = w.Write(r.out)
	return err
}

// streamList writes a list that is too long for memory, after what r.out holds.
func (r *groupRow) streamList(w *sink, i int, s *spool) (err error) {
	if r.json {
		s.buf = append(s.buf, ']')
	}
	r.out = r.rows.AppendQuote(r.out)
	err = s.pieces(func(p []byte) error {
		if r.out, err = r.rows.AppendPiece(r.out, i, p); err != nil {
			return err
		}
		_, err = w.Write(r.out)
		r.out = r.out[:0]
		return err
	})
	r.out = r.rows.AppendQuote(r.out)
	return err
}
