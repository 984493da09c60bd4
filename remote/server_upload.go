package remote

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/go-partd/partd"
)

func putU64(b []byte, v uint64) { binary.LittleEndian.PutUint64(b, v) }

// upload is the body of a request that is too large for one message. It arrives in parts
// before the request. A connection has one upload at a time.
type upload struct {
	id      uint64
	body    []byte
	charged int64 // memory taken for the whole body, in bytes; 0 before the first part
	err     error // first error of a part; later parts are ignored

	timer    *time.Timer // ends the connection if the upload stalls; nil while there is no upload
	timedLen int         // length of the body when the timer was last set
}

// uploadStep is the number of bytes that must arrive within StallTimeout, plus a second
// for each 16 KiB of a part. Without this limit, a stalled upload would occupy memory.
const uploadStep = 512 << 10

// watch restarts the timer when the upload begins, and after each uploadStep bytes.
func (u *upload) watch(c *conn) {
	timeout := c.server.opts.StallTimeout + c.server.partTimeout
	switch {
	case u.timer == nil:
		u.timer = time.AfterFunc(timeout, func() {
			c.server.meters.faultyConns.Add(1)
			c.server.opts.Logger.Warn("connection closed: an upload stalled", "peer", peerName(c.nc))
			c.abort()
		})
	case len(u.body)-u.timedLen >= uploadStep || u.timedLen == 0:
		u.timer.Reset(timeout)
	default:
		return
	}
	u.timedLen = len(u.body)
}

// add adds a part to the upload with the given id. total is the length of the whole body, and
// offset the part's position in it.
func (u *upload) add(c *conn, id, total, offset uint64, data []byte) error {
	if offset == 0 {
		u.drop(c)
		u.id = id
	}
	if u.err == nil {
		u.err = u.accept(c, id, total, offset, data)
	}
	if u.err != nil {
		u.release(c)
	}
	return u.err
}

func (u *upload) accept(c *conn, id, total, offset uint64, data []byte) error {
	limit := uint64(c.server.opts.Memory / 2)
	switch {
	case id != u.id || offset != uint64(len(u.body)) || total < offset+uint64(len(data)):
		return fmt.Errorf("%w: the part at offset %d of upload %d does not follow %d bytes of upload %d", ErrBadRequest, offset, id, len(u.body), u.id)
	case u.charged > 0 && total != uint64(u.charged):
		return fmt.Errorf("%w: upload %d claims %d bytes, but claimed %d before", ErrBadRequest, id, total, u.charged)
	case total > limit:
		return fmt.Errorf("%w: the operation has %d bytes, but the server's memory allows %d: split the operation", partd.ErrTooLarge, total, limit)
	}
	if u.charged == 0 {
		// Take memory for the whole body now, so that the upload need not wait later.
		if err := c.account.takeMessage(c.ctx, int64(total), admission); err != nil {
			return err
		}
		u.charged = int64(total)
	}
	if need := len(u.body) + len(data); need > cap(u.body) {
		grown := make([]byte, len(u.body), min(int(total), max(2*need, partLen)))
		copy(grown, u.body)
		u.body = grown
	}
	u.body = append(u.body, data...)
	u.watch(c)
	return nil
}

func (u *upload) stopWatch() {
	if u.timer != nil {
		u.timer.Stop()
		u.timer, u.timedLen = nil, 0
	}
}

func (u *upload) takeRequest(request []byte) ([]byte, error) {
	d := &decoder{b: request}
	id, total := d.u64(), d.u64()
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	if u.err != nil {
		return nil, u.err
	}
	if id != u.id || total != uint64(len(u.body)) {
		return nil, fmt.Errorf("%w: the operation needs %d bytes of upload %d, but %d bytes of upload %d have arrived", ErrBadRequest, total, id, len(u.body), u.id)
	}
	u.stopWatch() // applying the change may take long
	return u.body, nil
}

func (u *upload) release(c *conn) {
	u.stopWatch()
	u.body = nil
	if u.charged > 0 {
		c.account.giveMessage(u.charged)
		u.charged = 0
	}
}

func (u *upload) drop(c *conn) {
	u.release(c)
	u.id, u.err = 0, nil
}
