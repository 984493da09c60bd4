package hostile

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// conversation holds all bytes that a peer sends to the server, in parts.
type conversation struct {
	parts [][]byte
	rnd   *rand.Rand
}

// honestConversation returns a random conversation of a well-behaved peer that uses both protocols.
func honestConversation(rnd *rand.Rand) *conversation {
	c := &conversation{rnd: rnd}
	c.add(greeting(3, "NULL"))
	c.add(ready(pick(rnd, "DEALER", "DEALER", "DEALER", "REQ", "ROUTER"), pick(rnd, "", "", "someone")))
	for range 1 + rnd.IntN(4) {
		if rnd.IntN(2) == 0 {
			c.add(c.pythonRequest())
		} else {
			c.add(c.goRequest())
		}
	}
	return c
}

func (c *conversation) add(part []byte) { c.parts = append(c.parts, part) }

func pick[T any](rnd *rand.Rand, options ...T) T { return options[rnd.IntN(len(options))] }

func (c *conversation) key() string {
	return pick(c.rnd, "", "k", "key 1", "key 2", "a-|-b", "\x00", "é")
}

func (c *conversation) value() string {
	n := pick(c.rnd, 0, 1, 10, 254, 255, 256, 300, 5000)
	return strings.Repeat("v", n)
}

// pythonRequest returns a random request, except drop and close, in the protocol of Python's partd.
func (c *conversation) pythonRequest() []byte {
	k, v := c.key, c.value
	return Message(pick(c.rnd,
		[]string{"syn"},
		[]string{"append", k(), v()},
		[]string{"append", k(), v(), k(), v(), k(), v()},
		[]string{"append", k()},
		[]string{"iset", k(), v()},
		[]string{"iset", k()},
		[]string{"get", k(), k()},
		[]string{"get"},
		[]string{"delete", k()},
		[]string{"nonsense", k(), v()},
		[]string{""},
	)...)
}

// Constants of the Go client's protocol; docs/dev/wire.md describes it.
const (
	goHeader = 40 // bytes of a request's header
	goDrop   = 9  // number of the operation drop
	goLast   = 30 // requests use operation numbers below goLast; some of these operations do not exist
)

// goRequest returns a request in the Go client's protocol: a valid header and a random body.
func (c *conversation) goRequest() []byte {
	rnd := c.rnd
	op := byte(rnd.IntN(goLast))
	if op == goDrop { // the drop would remove the honest peer's data
		op = 1
	}
	body := make([]byte, pick(rnd, 0, 0, 2, 4, 8, 12, 16, 40, 300))
	for i := range body {
		body[i] = byte(pick(rnd, 0, 0, 0, 1, 2, 8, 255, rnd.IntN(256)))
	}
	if rnd.IntN(2) == 0 && len(body) >= 16 { // the server may read these bytes as a length
		binary.LittleEndian.PutUint64(body[rnd.IntN(len(body)-8):], pick[uint64](rnd, 0, 1, 3, 1<<20, 1<<31, 1<<32-1, 1<<63, 1<<64-1))
	}
	sum := crc32.Update(crc32.Checksum([]byte{op}, crc32.MakeTable(crc32.Castagnoli)), crc32.MakeTable(crc32.Castagnoli), body)
	h := make([]byte, goHeader)
	copy(h, "\x00PD1")
	h[4], h[5] = op, byte(pick(rnd, 0, 0, 0, 1, 2, 255))
	le := binary.LittleEndian
	le.PutUint64(h[8:], pick(rnd, 1, 2, 3, rnd.Uint64()))
	le.PutUint64(h[16:], pick(rnd, 0, 0, 1, rnd.Uint64()))
	le.PutUint64(h[24:], pick(rnd, 0, 1, 2, rnd.Uint64()))
	le.PutUint32(h[32:], pick(rnd, sum, sum, 0, rnd.Uint32()))
	frames := []string{string(h) + string(body)}
	for range rnd.IntN(3) {
		frames = append(frames, pick(rnd, string(body), c.key(), c.value()))
	}
	return Message(frames...)
}

func newConversation(seed, i uint64) *conversation {
	c := honestConversation(rand.New(rand.NewPCG(seed, i)))
	c.mutate()
	return c
}

func (c *conversation) mutate() {
	rnd := c.rnd
	for range 1 + rnd.IntN(3) {
		i := rnd.IntN(len(c.parts))
		p := slices.Clone(c.parts[i])
		randomIndex := func() int { return rnd.IntN(max(len(p), 1)) }
		switch rnd.IntN(9) {
		case 0: // flip a bit
			if len(p) > 0 {
				p[randomIndex()] ^= 1 << rnd.IntN(8)
			}
		case 1: // set a byte to a value that has a meaning in the protocols
			if len(p) > 0 {
				p[randomIndex()] = pick[byte](rnd, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0x7f, 0x80, 0xff)
			}
		case 2: // cut off the end
			p = p[:randomIndex()]
		case 3: // cut off the beginning
			p = p[randomIndex():]
		case 4: // set a length
			if len(p) >= 9 {
				binary.BigEndian.PutUint64(p[rnd.IntN(len(p)-8):], pick[uint64](rnd, 0, 255, 256, 1<<20, 1<<31, 1<<32, 1<<40, 1<<63, 1<<64-1))
			}
		case 5: // insert random bytes
			randomBytes := make([]byte, rnd.IntN(64))
			for j := range randomBytes {
				randomBytes[j] = byte(rnd.Uint32())
			}
			p = slices.Insert(p, min(randomIndex(), len(p)), randomBytes...)
		case 6: // repeat the part
			p = append(p, c.parts[i]...)
		case 7: // swap with another part
			j := rnd.IntN(len(c.parts))
			c.parts[j], p = p, c.parts[j]
		case 8: // set the flags of the first frame
			if len(p) > 0 {
				p[0] = byte(rnd.IntN(256))
			}
		}
		c.parts[i] = p
	}
}

// hold sends a conversation, reads some of the answers, and disconnects in a random way. The server
// may reject the conversation, but must accept the connection.
func (c *conversation) hold(ctx context.Context, t *Target) error {
	p, err := Dial(ctx, t.Network, t.Address, t.Patience)
	if err != nil {
		return err
	}
	defer p.Close()
	rnd := c.rnd
	inPieces := rnd.IntN(8) == 0
	for _, part := range c.parts {
		for len(part) > 0 {
			n := len(part)
			if inPieces {
				n = 1 + rnd.IntN(n)
			}
			if p.Raw(part[:n]) != nil {
				return nil // the server has dropped the peer
			}
			part = part[n:]
		}
	}
	switch rnd.IntN(8) {
	case 0: // disconnect
	case 1: // close the sending side, and read all answers
		if c, ok := p.conn.(interface{ CloseWrite() error }); ok && c.CloseWrite() == nil {
			_, _ = io.Copy(io.Discard, p.conn) // the server may answer or not
		}
	case 2: // reset the connection
		if c, ok := p.conn.(interface{ SetLinger(int) error }); ok {
			_ = c.SetLinger(0)
		}
	default: // read answers for a millisecond
		_ = p.conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, _ = io.Copy(io.Discard, p.conn)
	}
	return nil
}
