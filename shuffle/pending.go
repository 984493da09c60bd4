package shuffle

import (
	"errors"
	"reflect"

	"github.com/go-partd/partd/internal/hashagg"
)

// pending collects records, so that the states of many keys are looked for at
// once.
type pending[T any] struct {
	table *hashagg.Table
	use   func(v *T, state []uint64, isNew bool)
	limit int // records to collect
	buf   []byte
	ends  []int // of the keys in buf
	keys  [][]byte
	list  []T
	busy  bool // use is being called, or has panicked
}

// errPanicked is for those who go on after that.
var errPanicked = errors.New("a function of the caller has panicked: some of the records are lost")

const maxPending = 256

// newPending returns what calls use for each record with the state of its key,
// in order. Records that could change after they were added are not kept.
func newPending[T any](table *hashagg.Table, use func(v *T, state []uint64, isNew bool)) *pending[T] {
	p := &pending[T]{table: table, use: use, limit: 1}
	if consistsOf(reflect.TypeFor[T](), func(k reflect.Kind) bool { return k == reflect.String || inPlace(k) }) {
		p.limit = maxPending
	}
	return p
}

// add adds a record whose key encode appends, and returns the length of that.
func (p *pending[T]) add(v T, encode func(dst []byte, v T) ([]byte, error)) (size int, err error) {
	if p.busy {
		return 0, errPanicked
	}
	from := len(p.buf)
	if p.buf, err = encode(p.buf, v); err != nil {
		return 0, err
	}
	size = len(p.buf) - from
	p.ends = append(p.ends, len(p.buf))
	p.list = append(p.list, v)
	if len(p.list) < p.limit {
		return size, nil
	}
	return size, p.flush()
}

// flush uses what was collected.
func (p *pending[T]) flush() error {
	if p.busy {
		return errPanicked
	}
	p.busy = true
	from := 0
	for _, end := range p.ends {
		p.keys = append(p.keys, p.buf[from:end:end])
		from = end
	}
	err := p.table.GetMany(p.keys, func(i int, state []uint64, isNew bool) { p.use(&p.list[i], state, isNew) })
	clear(p.list) // strings
	p.buf, p.ends, p.keys, p.list, p.busy = p.buf[:0], p.ends[:0], p.keys[:0], p.list[:0], false
	return err
}
