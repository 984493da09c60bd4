package zmq4

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/go-partd/partd"
)

const operations = 26 // the number of operations in the Go client's protocol

func randomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{})
	_, _ = r.Read(b) // Read never fails
	return b
}

// TestPython checks the replies to every request of Python's client, sent with zmq4's DEALER.
func TestPython(t *testing.T) {
	large := string(randomBytes(16 << 20))
	message := []string{"append"}
	get, values := []string{"get"}, []string{}
	for i := range 20_000 {
		value := strings.Repeat("v", i%300) // some frames have a short header, others a long one
		message = append(message, fmt.Sprint("key ", i), value)
		get, values = append(get, fmt.Sprint("key ", i)), append(values, value)
	}
	ack := frames("ack")
	for transport, address := range transports {
		for _, vectored := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, vectored %t", transport, vectored), func(t *testing.T) {
				d := dial(t, serve(t, openLog(t), address(t)))
				for _, c := range []struct {
					send []string
					want [][][]byte
				}{
					{[]string{"syn"}, [][][]byte{ack}},
					{[]string{"append", "x", "1", "y", "", "x", "2"}, [][][]byte{ack}},
					{[]string{"append", "a-|-b", "tuple"}, [][][]byte{ack}},
					{[]string{"iset", "i", "first"}, [][][]byte{ack}},
					{[]string{"iset", "i", "second"}, [][][]byte{ack}},
					{[]string{"get", "x", "none", "i", "a-|-b", "y"}, [][][]byte{frames("12", "", "first", "tuple", ""), ack}},
					{[]string{"get"}, [][][]byte{ack}},
					{[]string{"append", "large", large}, [][][]byte{ack}},
					{[]string{"get", "large", "x", "large"}, [][][]byte{frames(large, "12", large), ack}},
					{message, [][][]byte{ack}},
					{get, [][][]byte{frames(values...), ack}},
					{[]string{"delete", "x", "none"}, [][][]byte{ack}},
					{[]string{"get", "x"}, [][][]byte{frames(""), ack}},
					{[]string{"drop"}, [][][]byte{ack}},
					{[]string{"get", "i"}, [][][]byte{frames(""), ack}},
					{[]string{"close"}, [][][]byte{ack}},
				} {
					d.requestPython(frames(c.send...), vectored)
					for _, message := range c.want {
						d.wantMessage(message)
					}
				}
				d.requestPython(frames("append", "k"), vectored)
				if got := d.receive(); !bytes.HasPrefix(got[0], []byte("error")) {
					t.Errorf("the server answers an append of a key without a value with %.100q, want an error", got)
				}
				d.wantMessage(ack)
			})
		}
	}
}

// TestOperations checks every operation of the Go client's protocol, sent with zmq4's DEALER.
func TestOperations(t *testing.T) {
	large := randomBytes(32 << 20)
	for transport, address := range transports {
		t.Run(transport, func(t *testing.T) {
			d := dial(t, serve(t, openLog(t), address(t)))
			d.startSession()
			d.checkChanges(large)
			d.checkReads(large)
			d.checkPops(large)
			d.checkDrop()
			for op := byte(1); op <= operations; op++ {
				if !d.sentOperations[op] {
					t.Errorf("the test did not send operation %d", op)
				}
			}
		})
	}
}

// startSession sends hello and starts a session.
func (d *dealer) startSession() {
	t := d.t
	hello := append([]byte{2, 0, 2, 0}, u32(64<<10)...)
	hello = append(hello, make([]byte, 8+16)...)
	_, b := d.request(1, header{}, 0, hello, encodeText(""), encodeText(""))
	if version := binary.LittleEndian.Uint32(b); version != 2 || len(b) != 32 {
		t.Fatalf("the reply to hello has version %d and %d bytes, want version 2 and 32 bytes", version, len(b))
	}
	if _, b = d.request(2, header{}, 0, []byte("anything")); string(b) != "anything" {
		t.Errorf("the server answers a ping with %q, want %q", b, "anything")
	}
	_, b = d.request(3, header{}, 0, make([]byte, 24))
	if d.session = binary.LittleEndian.Uint64(b); d.session == 0 || b[8] != 1 {
		t.Fatalf("got session %d with the persistence flag %d, want a session other than 0 with flag 1", d.session, b[8])
	}
}

// checkChanges sends each kind of change.
func (d *dealer) checkChanges(large []byte) {
	t := d.t
	message := []partd.Entry{{Key: "large", Value: large}}
	for i := range 5000 {
		message = append(message, partd.Entry{Key: fmt.Sprintf("key %030d", i), Value: []byte{byte(i)}})
	}
	_, _ = d.request(5, header{seq: 1, check: 1}, 0, encodeEntries(message...))
	if flags, _ := d.request(5, header{seq: 1, check: 1}, 0, encodeEntries(message...)); flags != 2 {
		t.Errorf("the reply to a repeated append has flags %d, want 2 (already applied)", flags)
	}
	_, _ = d.request(6, header{seq: 2, check: 2}, 0, encodeEntries(partd.Entry{Key: "set", Value: []byte("one")}))
	_, _ = d.request(7, header{seq: 3, check: 3}, 0, encodeEntries(partd.Entry{Key: "set", Value: []byte("two")}))
	_, _ = d.request(23, header{}, 1) // the number is unused
	_, _ = d.request(5, header{seq: 4, check: 4}, 0, encodeEntries(partd.Entry{Key: "pages", Value: large[:9<<20]}))
	_, _ = d.request(8, header{seq: 5, check: 5}, 0, encodeKeys("key 000000000000000000000000000000", "none"))
}

// checkReads reads everything with each kind of read.
func (d *dealer) checkReads(large []byte) {
	t := d.t
	_, b := d.request(13, header{}, 0, encodeKeys("set", "none"))
	if want := append(u32(2), append(encodeText("one"), encodeText("")...)...); !bytes.Equal(b, want) {
		t.Errorf("the server answers a get with %q, want %q", b, want)
	}
	_, b = d.request(13, header{}, 0, encodeKeys("large"))
	if string(b[:8]) != "\x01\x00\x00\x00\xff\xff\xff\xff" {
		t.Fatalf("the server answers a get of a large value with %.100q, want a handle", b)
	}
	if got := d.readPages(15, binary.LittleEndian.Uint64(b[8:]), nil); !bytes.Equal(got, large) {
		t.Errorf("read a wrong large value of %d bytes, want %d", len(got), len(large))
	}

	_, b = d.request(14, header{}, 0, encodeKeys("pages")[4:])
	handle, begin := b[:8], b[8:]
	d.send(25, header{}, 0, handle)
	if _, page := d.request(15, header{}, 0, handle, u64(1)); !bytes.HasPrefix(large, append(begin, page...)) || len(page) == 0 {
		t.Errorf("a reader returns %d bytes and then %d bytes, which differ from the value", len(begin), len(page))
	}
	_, _ = d.request(19, header{}, 0, handle)
	_, _ = d.request(15, header{}, 1, handle, u64(2)) // the handle was closed

	_, b = d.request(16, header{}, 0)
	count := 0
	for _, page := range d.readListing(b) {
		for n, offset := binary.LittleEndian.Uint32(page), 4; n > 0; n-- {
			offset += 8 + 2 + int(binary.LittleEndian.Uint16(page[offset+8:]))
			count++
		}
	}
	if count != 5002 {
		t.Errorf("the listing contains %d keys, want 5002", count)
	}
	_, b = d.request(17, header{}, 0, u32(0), u32(1))
	size := 0
	for _, page := range d.readListing(b) {
		for n, offset := binary.LittleEndian.Uint32(page), 4; n > 0; n-- {
			length, key := int(binary.LittleEndian.Uint32(page[offset+9:])), int(binary.LittleEndian.Uint16(page[offset+13:]))
			offset += 15 + key + length
			size += length
		}
	}
	if want := len(large) + 9<<20 + 4999 + 3; size != want {
		t.Errorf("the scan returns values of %d bytes, want %d", size, want)
	}

	_, b = d.request(20, header{}, 0)
	if n := binary.LittleEndian.Uint64(b); n != 5002 {
		t.Errorf("stat counts %d keys, want 5002", n)
	}
	for _, op := range []byte{21, 22} {
		_, _ = d.request(op, header{}, 0)
	}
	_, b = d.request(24, header{}, 0)
	if damaged := binary.LittleEndian.Uint32(b[16:]); damaged != 0 || binary.LittleEndian.Uint64(b) == 0 {
		t.Errorf("verify reports %d damaged places in %d records, want no damage", damaged, binary.LittleEndian.Uint64(b))
	}
	_, b = d.request(26, header{}, 1, encodeText(""))
	if string(b[:3]) != "\x01\x01\x00" {
		t.Errorf("a server without namespaces answers with the codes %x, want 1 (unsupported)", b[:3])
	}
}

// readPages requests the pages of a handle until its end.
func (d *dealer) readPages(op byte, handle uint64, visit func(page []byte)) (all []byte) {
	d.t.Helper()
	for step, more := uint64(1), byte(1); more == 1; step++ {
		var page []byte
		more, page = d.request(op, header{}, 0, u64(handle), u64(step))
		if visit == nil {
			all = append(all, page...)
		} else {
			visit(page)
		}
	}
	return all
}

// readListing returns all pages of a listing whose first page was received.
func (d *dealer) readListing(first []byte) [][]byte {
	d.t.Helper()
	handle, pages := binary.LittleEndian.Uint64(first), [][]byte{first[8:]}
	if handle == 0 {
		d.t.Errorf("the whole listing fits in one page of %d bytes, want several pages", len(first))
		return pages
	}
	d.readPages(18, handle, func(page []byte) { pages = append(pages, page) })
	return pages
}

// checkPops pops values that are longer than a page.
func (d *dealer) checkPops(large []byte) {
	t := d.t
	_, b := d.request(1, header{}, 0, append([]byte{2, 0, 2, 0}, append(u32(64<<10), make([]byte, 24)...)...), encodeText(""), encodeText(""))
	instance := b[8:16]
	more, result := d.request(10, header{seq: 1}, 0, instance, encodeKeys("pages", "none"))
	for more == 1 {
		var page []byte
		more, page = d.request(11, header{seq: 1}, 0, u64(uint64(len(result))))
		result = append(result, page...)
	}
	want := append(u32(2), u64(9<<20)...)
	want = append(append(want, large[:9<<20]...), u64(0)...)
	if !bytes.Equal(result, want) {
		t.Errorf("pop returns %d bytes, want %d", len(result), len(want))
	}
	d.send(12, header{seq: 1}, 0)
	if _, b = d.request(13, header{}, 0, encodeKeys("pages")); !bytes.Equal(b, append(u32(1), encodeText("")...)) {
		t.Errorf("after pop, the server answers a get with %d bytes, want an empty value", len(b))
	}
}

// checkDrop drops everything and ends the session.
func (d *dealer) checkDrop() {
	_, _ = d.request(9, header{seq: 6, check: 6}, 0)
	_, b := d.request(20, header{}, 0)
	if n := binary.LittleEndian.Uint64(b); n != 0 {
		d.t.Errorf("the store has %d keys after drop, want 0", n)
	}
	_, _ = d.request(4, header{seq: 7}, 0)
	_, _ = d.request(5, header{seq: 7, check: 7}, 1, encodeEntries())
}
