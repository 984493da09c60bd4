package extsort

import (
	"encoding/binary"

	"github.com/go-partd/partd/internal/spill"
)

// run is a file of sorted records.
type run struct {
	*spill.File
	seq    int64 // of the first slot in it
	passes int   // merges that its records went through
}

func (s *Sorter) newRun(seq int64) (*run, error) {
	f, err := spill.Create(s.Temp, "sorted records", s.sizes.block)
	if err != nil {
		return nil, err
	}
	return &run{File: f, seq: seq}, nil
}

// add adds a record. same says that its key is that of the record before.
func (r *run) add(h *head, same bool) error {
	if err := r.Room(len(h.key) + len(h.rec) + 2*binary.MaxVarintLen64); err != nil {
		return err
	}
	// A block does not need the one before it.
	if same && len(r.Buf) > 0 {
		r.Buf = binary.AppendUvarint(r.Buf, uint64(len(h.rec))<<1|1)
	} else {
		r.Buf = binary.AppendUvarint(r.Buf, uint64(len(h.rec))<<1)
		r.Buf = binary.AppendUvarint(r.Buf, uint64(len(h.key)))
		r.Buf = append(r.Buf, h.key...)
	}
	r.Buf = append(r.Buf, h.rec...)
	return nil
}

// fill adds the records that next returns, up to nil.
func (s *Sorter) fill(r *run, next func() (*head, bool, error)) error {
	for blocks := 0; ; {
		h, same, err := next()
		if err != nil {
			return err
		}
		if h == nil {
			return r.Finish()
		}
		if err := r.add(h, same); err != nil {
			return err
		}
		if r.Blocks() != blocks {
			if blocks = r.Blocks(); s.Ctx.Err() != nil {
				return s.Why()
			}
		}
	}
}
