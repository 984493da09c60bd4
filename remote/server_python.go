package remote

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/server/zmtp"
	"github.com/go-partd/partd/storekit"
)

// ack is the answer to every successful request from a Python client.
var ack = [...]byte{0, 3, 'a', 'c', 'k'}

// handlePython answers a message of Python's protocol. If it returns an error, the caller must end the
// connection. It answers a failed request with a frame "error CODES: …", followed by ack. Python's
// client reads the answer to a request only at the start of its next call. That call then reads the
// error frame and raises an error; the call after it reads ack and succeeds.
func (c *conn) handlePython(frames [][]byte) error {
	command, args := string(frames[0][:min(len(frames[0]), 16)]), frames[1:]
	m, arrived := &c.meters.python[slices.Index(pythonCommands[:], command)+1], time.Now()
	for _, f := range frames {
		m.received.Add(int64(len(f)))
	}
	err := c.checkPythonRights(command)
	sent := c.account.sent.Load()
	defer func() {
		m.observe(arrived, err != nil)
		c.auditPython(command, frames, arrived, c.account.sent.Load()-sent, err)
	}()
	switch {
	case err != nil && command == "get":
		return err
	case err != nil:
		return c.pythonError(command, err)
	}
	switch command {
	case "get":
		c.hasRequested.Store(true)
		err = c.pythonGet(args)
		if err != nil {
			c.logFault(slog.LevelDebug, "a get from a Python client failed", err)
			return fmt.Errorf("get of %d keys for Python: %w", len(args), err)
		}
	case "syn":
	case "append", "iset", "delete", "drop":
		err = c.pythonChange(command, args)
	case "close":
		defer c.server.closeOnce.Do(func() { close(c.server.closeRequested) })
	default:
		err = fmt.Errorf("%w: %q; the commands are syn, append, iset, get, delete, drop, close", errCommand, command)
	}
	if err == nil {
		return c.write(ack[:])
	}
	return c.pythonError(command, err)
}

var pythonRights = map[string]Rights{
	"get": RightRead, "append": RightAppend, "iset": RightAppend, "delete": RightChange, "drop": RightChange,
}

// checkPythonRights returns an error if the client lacks the right to run the command. The command
// syn needs no right, and neither does an unknown command, which fails anyway.
func (c *conn) checkPythonRights(command string) error {
	needs, known := pythonRights[command]
	switch {
	case command == "close":
		if c.opts.AllowClose && c.rights() != 0 || c.opts.Authorizer != nil && c.rightsIn("")&RightAdmin != 0 {
			return nil
		}
		return errClose
	case !known:
		return nil
	}
	return errors.Join(c.bindDefault(), c.requireRights(needs, command))
}

func (c *conn) pythonError(command string, err error) error {
	if c.ctx.Err() != nil {
		return errClosing
	}
	c.logFault(slog.LevelWarn, "a request from a Python client failed", err, "command", command)
	head := "error"
	for _, code := range codesOf(err) {
		head += " " + strconv.Itoa(code)
	}
	text := strings.ToValidUTF8(head+": "+publicText(err.Error(), err), "?")
	return c.write(append(zmtp.AppendFrame(nil, []byte(text[:min(len(text), 1<<10)]), false), ack[:]...))
}

// maxSkipped limits how much of an oversized message the server reads and discards in order to answer
// it, in multiples of the message limit.
const maxSkipped = 3

// refuse handles a message that was not read because of cause, for example its size. If the message is
// a change from a Python client, refuse answers with an error, because the client would wait forever
// after a closed connection. Otherwise it returns cause, which ends the connection.
func (c *conn) refuse(cause error) error {
	if !errors.Is(cause, zmtp.ErrTooLarge) && !errors.Is(cause, ErrBusy) && !errors.Is(cause, partd.ErrTooLarge) {
		return cause
	}
	command := string(c.reader.FirstFrame())
	if command != "append" && command != "iset" && command != "delete" || c.rights() == 0 {
		return cause
	}
	if err := c.reader.Skip(maxSkipped * c.opts.messageLimit()); err != nil {
		return errors.Join(cause, err)
	}
	return c.pythonError(command, cause)
}

func (c *conn) pythonChange(command string, args [][]byte) error {
	c.hasRequested.Store(true)
	c.account.pins.Add(1) // prevents an eviction while the change waits for memory, because the client would then wait forever
	defer c.account.pins.Add(-1)
	allowance := c.newAllowance()
	defer allowance.release()
	if len(args) > manyKeys {
		if err := c.enterLarge(); err != nil {
			return err
		}
		defer c.tenant.large.release()
	}
	need := len(args) * keyMemory
	if command == "append" {
		need = len(args) / 2 * entryMemory
	}
	if err := allowance.raise(int64(need)); err != nil {
		return err
	}
	defer c.dropEntries()
	op := partd.Operation{Change: partd.ChangeDrop}
	switch command {
	case "append":
		if len(args)%2 != 0 {
			return fmt.Errorf("append: %w: %d after the command, which needs pairs of a key and a value", errFrames, len(args))
		}
		c.entries = slices.Grow(c.entries[:0], len(args)/2)
		for i := 0; i < len(args); i += 2 {
			c.entries = append(c.entries, partd.Entry{Key: textOf(args[i]), Value: args[i+1]})
		}
		op = partd.Operation{Change: partd.ChangeAppend, Entries: c.entries}
	case "iset":
		if len(args) != 2 {
			return fmt.Errorf("iset: %w: %d after the command, which needs a key and a value", errFrames, len(args))
		}
		op = partd.Operation{Change: partd.ChangeSetOnce, Entries: []partd.Entry{{Key: string(args[0]), Value: args[1]}}}
	case "delete":
		op = partd.Operation{Change: partd.ChangeDelete, Keys: toStrings(args)}
	default:
		if len(args) > 0 {
			return fmt.Errorf("drop: %w: %d after the command, which needs none", errFrames, len(args))
		}
	}
	_, err := c.apply(partd.Tag{}, op)
	return err
}

func toStrings(frames [][]byte) []string {
	keys := make([]string, len(frames))
	for i, f := range frames {
		keys[i] = string(f)
	}
	return keys
}

// pythonGet writes the values as frames of one message. Without keys, it writes nothing, because
// ZeroMQ has no message without frames.
func (c *conn) pythonGet(keys [][]byte) error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	a := c.newAllowance()
	w := frameWriter{out: &c.transport, space: c.space, pageSize: c.budget.pageSize(defaultPage)}
	a.minFirstRaise = min(int64(w.pageSize+w.pageSize/2)+c.handles.cost(false), c.opts.Memory/4)
	defer a.release()
	for i, k := range keys {
		if err := w.storedValue(a, string(k), i < len(keys)-1); err != nil {
			return err
		}
	}
	return w.flush()
}

// frameWriter collects small frames and writes them together.
type frameWriter struct {
	out      *transport
	space    *space
	buf      []byte
	value    []byte // buffer for a value or its first bytes
	pageSize int    // a longer value is streamed if its reader can rewind
}

const batchSize = 64 << 10 // size in bytes at which buf is written

func (w *frameWriter) frame(body []byte, more bool) error {
	w.buf = zmtp.AppendHeader(w.buf, len(body), more)
	if len(body) > batchSize {
		err := w.out.writeParts(w.buf, body)
		w.buf = w.buf[:0]
		return err
	}
	w.buf = append(w.buf, body...)
	if len(w.buf) < batchSize {
		return nil
	}
	return w.flush()
}

// storedValue writes one value as a frame. A frame begins with its length, so storedValue reads a
// large value twice: the first time to learn its length. If the reader cannot rewind, storedValue
// reads the whole value into memory.
func (w *frameWriter) storedValue(a *allowance, key string, more bool) error {
	v, err := w.space.readValue(w.out.ctx, key, w.value[:0], w.pageSize, a)
	if err != nil {
		return err
	}
	w.value = v.buf
	if v.rest == nil {
		return w.frame(v.data, more)
	}
	r, ok := v.rest.(storekit.Rewinder)
	if ok {
		if err := r.Rewind(); err == nil {
			return errors.Join(w.stream(v.rest, r, more), v.rest.Close())
		}
	}
	limit := int(w.out.opts.Memory / 4)
	data, tooLong, err := readUpTo(v.rest, v.buf, limit, a)
	if err == nil && tooLong {
		err = fmt.Errorf("%w: the value has more than %d bytes, a quarter of the server's memory, and the store cannot read it twice", partd.ErrTooLarge, limit)
	}
	if err := errors.Join(err, v.rest.Close()); err != nil {
		return err
	}
	return w.frame(data, more)
}

// lengthOf reads r to its end and returns the number of bytes. Because that can take long, lengthOf
// waits for one of the tenant's permits for slow operations. It counts the bytes as sent, so that the
// connection does not look stalled.
func (w *frameWriter) lengthOf(r io.Reader) (int64, error) {
	if err := w.out.tenant.turns.acquire(w.out.ctx); err != nil {
		return 0, err
	}
	defer w.out.tenant.turns.release()
	return io.Copy(sentCounter{w.out}, r)
}

type sentCounter struct{ *transport }

func (p sentCounter) Write(b []byte) (int, error) {
	p.account.sent.Add(int64(len(b)))
	return len(b), p.ctx.Err() // the error stops io.Copy if the connection has ended
}

// stream reads r twice and writes its content as a frame. rewinder is the same reader as r.
func (w *frameWriter) stream(r io.Reader, rewinder storekit.Rewinder, more bool) error {
	size, err := w.lengthOf(r)
	if err == nil {
		err = rewinder.Rewind()
	}
	if err != nil {
		return err
	}
	w.buf = zmtp.AppendHeader(w.buf, int(size), more)
	if err := w.flush(); err != nil {
		return err
	}
	for size > 0 {
		n, err := r.Read(w.value[:min(size, int64(len(w.value)))])
		if err := w.out.writeParts(w.value[:n]); err != nil {
			return err
		}
		size -= int64(n)
		if err != nil && size > 0 {
			return fmt.Errorf("the value became shorter while it was being sent: %w", err)
		}
	}
	return nil
}

func (w *frameWriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	err := w.out.writeParts(w.buf)
	w.buf = w.buf[:0]
	return err
}
