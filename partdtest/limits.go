package partdtest

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/go-partd/partd"
)

// expectTooLarge checks that the store rejects values with the given sizes. The last size must be the
// largest.
func (e *env) expectTooLarge(sizes ...int64) {
	e.Helper()
	value := e.zeros(sizes[len(sizes)-1])
	if value == nil {
		return
	}
	e.append(entry("a", "1"))
	for _, size := range sizes {
		v := value[:size]
		e.expectFailures(fmt.Sprintf("of a value of %d bytes must fail with ErrTooLarge", size), isTooLarge, []operation{
			{"Append", func() error {
				return e.store.Append(e.ctx, entry("a", "2"), partd.Entry{Key: "large", Value: v}, entry("b", "3"))
			}},
			{"Set", func() error { return partd.Set(e.ctx, e.store, "a", v) }},
			{"SetOnce", func() error { return partd.SetOnce(e.ctx, e.store, "large", v) }},
		})
	}
}

func isTooLarge(err error) bool { return errors.Is(err, partd.ErrTooLarge) }

func batchTooLarge(e *env) {
	value := e.zeros(partd.MaxValueLen)
	if value == nil {
		return
	}
	e.append(entry("a", "1"))
	err := e.store.Append(e.ctx,
		entry("a", "2"),
		partd.Entry{Key: "x", Value: value},
		partd.Entry{Key: "y", Value: value},
		partd.Entry{Key: "x", Value: value},
		entry("b", "3"),
	)
	if !errors.Is(err, partd.ErrTooLarge) {
		e.Errorf("Append of a batch of %d bytes must fail with ErrTooLarge: %v", 3*int64(partd.MaxValueLen)+4, err)
	}
	e.check("Append of a batch that is too large must change nothing")
}

// zeros returns size zero bytes that take no memory, because unwritten pages share one physical page.
// It returns nil if there is not enough address space.
func (e *env) zeros(size int64) []byte {
	e.Helper()
	if strconv.IntSize == 32 {
		e.Logf("not checked: a slice of %d bytes does not fit on a 32-bit machine", size)
		return nil
	}
	b, free, err := reserve(int(size))
	if err != nil {
		e.Logf("not checked: cannot reserve %d bytes of address space: %v", size, err)
		return nil
	}
	e.testingT().Cleanup(free)
	return b
}
