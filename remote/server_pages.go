package remote

import (
	"fmt"
	"iter"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/storekit"
)

// get answers with the values of as many keys as fit in a page, but at least one. If the first value
// is larger than a page, it answers with a handle.
func (c *conn) get(_ request, d *decoder) (answerFunc, error) {
	keys := d.keys()
	return func(a *answerBuilder) error {
		count := a.reserveU32()
		for i, key := range keys {
			remaining := a.pageSize - a.size()
			if i > 0 && remaining <= 0 {
				break
			}
			length := a.reserveU32()
			v, err := c.space.readValue(c.ctx, key, a.buf, max(remaining, 0), &a.allowance)
			if err != nil {
				return err
			}
			a.buf = v.buf
			if v.rest == nil && (len(v.data) <= remaining || i == 0 && len(v.data) <= a.pageSize) {
				a.setU32(length, uint32(len(v.data)))
				if len(a.buf) == length+4 { // readValue has not added the data
					a.appendData(v.data)
					a.force(int64(cap(a.buf) + a.bytes)) // readValue has charged only the last value
				}
				a.setU32(count, uint32(i+1))
				continue
			}
			if i > 0 { // the client's next request will begin with this key
				a.buf = a.buf[:length]
				return closeRest(v)
			}
			a.builder = newBuilder() // the handle keeps the old builder's memory
			count = a.reserveU32()
			id, err := c.addValue(v)
			if err != nil {
				return err
			}
			a.u32(largeValue)
			a.u64(id)
			a.setU32(count, 1)
			return nil
		}
		return nil
	}, nil
}

func closeRest(v loadedValue) error {
	if v.rest == nil {
		return nil
	}
	return v.rest.Close()
}

// open answers with the first page of a value and, if there are more pages, a handle.
func (c *conn) open(_ request, d *decoder) (answerFunc, error) {
	key := d.key()
	return func(a *answerBuilder) error {
		idOffset := len(a.buf) // a.buf[idOffset:] begins with the handle's ID
		a.u64(0)
		v, err := c.space.readValue(c.ctx, key, a.buf, a.pageSize, &a.allowance)
		if err != nil {
			return err
		}
		a.buf = v.buf
		more := v.rest != nil
		isInAnswer := len(a.buf) > idOffset+8 // readValue has appended data after the ID, which has 8 bytes
		if !isInAnswer {                      // v.data is in the store's own memory
			first := v.data[:min(len(v.data), a.pageSize)]
			v.data = v.data[len(first):]
			more = len(v.data) > 0
			a.appendData(first)
		} else {
			v.data = nil // the data is already in the answer
		}
		if !more {
			return closeRest(v)
		}
		handle, err := c.addValue(v)
		if err != nil {
			return err
		}
		a.setU64(idOffset, handle)
		a.flags |= flagMore
		return nil
	}, nil
}

// addValue opens a handle for the rest of a value and returns the handle's ID.
func (c *conn) addValue(v loadedValue) (id uint64, err error) {
	// The data counts as memory that the connection uses until the handle is closed.
	held := c.newAllowance()
	held.force(int64(len(v.data)))
	page := func(a *answerBuilder) (bool, error) {
		if len(v.data) > 0 {
			n := min(len(v.data), a.pageSize)
			a.appendData(v.data[:n:n])
			v.data = v.data[n:]
			if len(v.data) == 0 {
				v.data, v.buf = nil, nil
			}
			return len(v.data) > 0 || v.rest != nil, nil
		}
		if v.rest == nil {
			return false, nil
		}
		buf, more, err := readUpTo(v.rest, a.buf, a.pageSize, &a.allowance)
		a.buf = buf
		return more, err
	}
	return c.addHandle(false, page, func() error {
		held.release()
		return closeRest(v)
	})
}

// addHandle calls handles.add. During the call, the connection is not evicted, because it is not the
// peer's fault that the waiting answer holds its reader's memory.
func (c *conn) addHandle(listing bool, page func(a *answerBuilder) (bool, error), closer func() error) (id uint64, err error) {
	c.account.pins.Add(1)
	defer c.account.pins.Add(-1)
	return c.handles.add(c.ctx, listing, page, closer)
}

// answerListing answers with the first page of the listing seq and, if there are more pages, a handle.
// item adds *v to the answer. If only a part of *v fits, item leaves the rest in *v and returns false.
func answerListing[V any](c *conn, a *answerBuilder, seq iter.Seq2[V, error], item func(a *answerBuilder, v *V) (done bool)) error {
	idOffset := len(a.buf)
	a.u64(0)
	if err := a.raise(c.handles.cost(true) + freeBytes); err != nil {
		return err
	}
	if err := c.tenant.turns.acquire(c.ctx); err != nil {
		return err
	}
	next, stop := iter.Pull2(seq)
	var v V
	hasItem := false
	page := func(a *answerBuilder) (bool, error) {
		count, n := a.reserveU32(), uint32(0)
		for a.size() < a.pageSize {
			if !hasItem {
				item, err, ok := next()
				if err != nil {
					return false, err
				}
				if !ok {
					a.setU32(count, n)
					return false, nil
				}
				v, hasItem = item, true
			}
			if err := a.raise(int64(2 * cap(a.buf))); err != nil {
				return false, err
			}
			hasItem = !item(a, &v)
			n++
		}
		a.setU32(count, n)
		return true, nil
	}
	more, err := page(a)
	c.tenant.turns.release()
	if !more || err != nil {
		stop()
		return err
	}
	handle, err := c.addHandle(true, page, func() error { stop(); return nil })
	if err != nil {
		return err
	}
	a.setU64(idOffset, handle)
	a.flags |= flagMore
	return nil
}

func (c *conn) openKeys(a *answerBuilder) error {
	return answerListing(c, a, partd.Keys(c.ctx, c.space.store), func(a *answerBuilder, k *partd.KeyInfo) bool {
		a.u64(uint64(k.Size))
		a.buf = appendKey(a.buf, k.Key)
		return true
	})
}

// scan answers with the chunks of one part of the keys. It splits chunks that do not fit in a page.
func (c *conn) scan(_ request, d *decoder) (answerFunc, error) {
	part, parts := int(d.u32()), int(d.u32())
	if err := storekit.CheckPart(part, parts); d.err == nil && err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	return func(a *answerBuilder) error {
		return answerListing(c, a, partd.ScanPart(c.ctx, c.space.store, part, parts), func(a *answerBuilder, k *partd.Chunk) bool {
			n := min(len(k.Data), max(a.pageSize-a.size(), 1))
			last := n == len(k.Data)
			if len(a.buf)+n > a.pageSize/8 { // allocate a whole page now, instead of copying the buffer at each growth
				const lastKey = 4 << 10
				a.reserve(headerSpace + a.pageSize + lastKey)
				a.force(int64(cap(a.buf)))
			}
			a.bool(last && k.Last)
			a.u64(uint64(k.Offset))
			a.u32(uint32(n))
			a.buf = appendKey(a.buf, k.Key)
			a.buf = append(a.buf, k.Data[:n]...)
			k.Data, k.Offset = k.Data[n:], k.Offset+int64(n)
			return last
		})
	}, nil
}
