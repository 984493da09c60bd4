package remote

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/zmtp"
)

// ack is Python's answer to whatever worked.
var ack = [...]byte{0, 3, 'a', 'c', 'k'}

var (
	errCommand = errors.New("no command") // of Python's
	errFrames  = errors.New("a wrong number of frames")
)

// python answers a message of Python's protocol. Its error ends the connection.
// A fault is answered with one frame "error: …" before ack: Python's client, which
// waits for ack before each request, raises once at its next call and goes on.
func (c *conn) python(frames [][]byte) error {
	command, args := string(frames[0][:min(len(frames[0]), 16)]), frames[1:]
	var err error
	switch command {
	case "get":
		c.worked.Store(true)
		if err := c.pythonGet(args); err != nil {
			c.logFault(slog.LevelDebug, "a get of a Python client failed", err)
			return fmt.Errorf("get of %d keys for Python: %w", len(args), err)
		}
	case "syn":
	case "append", "iset", "delete", "drop":
		c.worked.Store(true)
		c.account.working.Add(1)
		err = c.pythonChange(command, args)
		c.account.working.Add(-1)
	case "close":
		if err = c.rights.check(mayClose); err == nil {
			defer c.server.requestClose()
		}
	default:
		err = fmt.Errorf("%w: %q; there is syn, append, iset, get, delete, drop, close", errCommand, command)
	}
	if err == nil {
		return c.write(ack[:])
	}
	return c.pythonError(command, err)
}

func (c *conn) pythonError(command string, err error) error {
	if c.server.base.Err() != nil {
		return errClosing
	}
	c.logFault(slog.LevelWarn, "a request of a Python client failed", err, "command", command)
	text := strings.ToValidUTF8("error: "+publicText(err.Error(), err), "?")
	return c.write(zmtp.AppendFrame(nil, []byte(text[:min(len(text), 1<<10)]), false), ack[:])
}

// mostSkipped is how many times the longest message may be skipped to answer it.
const mostSkipped = 3

// refuse answers a message that is too large, or that there is no memory for, if
// it is a change by a Python client: that would wait for ever if the connection
// were closed. Of any other it returns the error, which ends the connection.
func (c *conn) refuse(cause error) error {
	if !errors.Is(cause, zmtp.ErrTooLarge) && !errors.Is(cause, ErrBusy) && !errors.Is(cause, partd.ErrTooLarge) {
		return cause
	}
	command := string(c.reader.First())
	switch command {
	case "append", "iset", "delete":
		if err := c.reader.Skip(mostSkipped * c.server.opts.MaxMessage); err != nil {
			return errors.Join(cause, err)
		}
		return c.pythonError(command, cause)
	}
	return cause
}

func (c *conn) pythonChange(command string, args [][]byte) error {
	ctx, store := c.server.base, c.server.store
	defer c.server.changes.Add(1)
	room := c.newAllowance()
	defer room.release()
	if err := room.hold(int64(len(args)) * keyMemory); err != nil {
		return err
	}
	switch command {
	case "append":
		if len(args)%2 != 0 {
			return fmt.Errorf("append: %w: %d after the command, it takes a key and a value in turn", errFrames, len(args))
		}
		if err := c.rights.check(mayAppend); err != nil {
			return err
		}
		c.entries = c.entries[:0]
		for i := 0; i < len(args); i += 2 {
			c.entries = append(c.entries, partd.Entry{Key: textOf(args[i]), Value: args[i+1]})
		}
		defer c.clearEntries()
		return store.Append(ctx, c.entries...)
	case "iset":
		if len(args) != 2 {
			return fmt.Errorf("iset: %w: %d after the command, it takes a key and a value", errFrames, len(args))
		}
		if err := c.rights.check(mayDelete); err != nil {
			return err
		}
		return partd.SetOnce(ctx, store, string(args[0]), args[1])
	case "delete":
		if err := c.rights.check(mayDelete); err != nil {
			return err
		}
		return partd.Delete(ctx, store, texts(args)...)
	}
	if len(args) > 0 {
		return fmt.Errorf("drop: %w: %d after the command, it takes none", errFrames, len(args))
	}
	if err := c.rights.check(mayDelete); err != nil {
		return err
	}
	err := store.Drop(ctx)
	c.server.changed(partd.ChangeDrop, err)
	return err
}

// clearEntries forgets where entries were, and what a large batch took.
func (c *conn) clearEntries() {
	if cap(c.entries) > 16<<10 {
		c.entries = nil
	}
	clear(c.entries)
}

func texts(frames [][]byte) []string {
	keys := make([]string, len(frames))
	for i, f := range frames {
		keys[i] = string(f)
	}
	return keys
}

// pythonGet writes the values as frames of one message. Of no keys there is
// none, as ZeroMQ has no message without a frame.
func (c *conn) pythonGet(keys [][]byte) error {
	if err := c.rights.check(mayRead); err != nil {
		return err
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	a := c.newAllowance()
	a.most = min(defaultPage+defaultPage/2+c.server.handles.cost(false), c.server.opts.Memory/4)
	defer a.release()
	w := frameWriter{c: c}
	for i, k := range keys {
		if err := c.pythonValue(&w, a, string(k), i < len(keys)-1); err != nil {
			return err
		}
	}
	return w.flush()
}

// pythonValue writes one value as a frame. A frame begins with its length, so a
// large value is read twice from one reader, first to learn its length. Where the
// reader cannot begin anew, the value is held in memory.
func (c *conn) pythonValue(w *frameWriter, a *allowance, key string, more bool) error {
	v, err := c.server.readValue(c.ctx, key, w.value[:0], defaultPage, a)
	if err != nil {
		return err
	}
	w.value = v.buf
	if v.rest == nil {
		return w.frame(v.data, more)
	}
	r, ok := v.rest.(partd.Rewinder)
	if ok {
		if err := r.Rewind(); err == nil {
			return errors.Join(w.streamTwice(v.rest, r, more), v.rest.Close())
		}
	}
	limit := int(c.server.opts.Memory / 4)
	whole, tooLong, err := readUpTo(v.rest, v.buf, limit, a)
	if err == nil && tooLong {
		err = fmt.Errorf("%w: it has more than %d bytes, a quarter of the server's memory, and its store cannot read it twice", partd.ErrTooLarge, limit)
	}
	if err := errors.Join(err, v.rest.Close()); err != nil {
		return err
	}
	return w.frame(whole, more)
}

// streamTwice writes a frame from a reader, which is at its begin.
func (w *frameWriter) streamTwice(r io.Reader, again partd.Rewinder, more bool) error {
	size, err := io.Copy(io.Discard, r)
	if err == nil {
		err = again.Rewind()
	}
	if err != nil {
		return err
	}
	return w.stream(r, size, more)
}

// frameWriter gathers small frames and writes them together.
type frameWriter struct {
	c     *conn
	buf   []byte
	value []byte // memory for a value
}

const gather = 64 << 10

func (w *frameWriter) frame(body []byte, more bool) error {
	w.buf = zmtp.AppendHeader(w.buf, len(body), more)
	if len(body) > gather {
		err := w.c.writeLocked(w.buf, body)
		w.buf = w.buf[:0]
		return err
	}
	w.buf = append(w.buf, body...)
	if len(w.buf) < gather {
		return nil
	}
	return w.flush()
}

// stream writes a frame of a size from a reader.
func (w *frameWriter) stream(r io.Reader, size int64, more bool) error {
	w.buf = zmtp.AppendHeader(w.buf, int(size), more)
	if err := w.flush(); err != nil {
		return err
	}
	for size > 0 {
		n, err := r.Read(w.value[:min(size, int64(len(w.value)))])
		if err := w.c.writeLocked(w.value[:n]); err != nil {
			return err
		}
		size -= int64(n)
		if err != nil && size > 0 {
			return fmt.Errorf("the value has become shorter while it was sent: %w", err)
		}
	}
	return nil
}

func (w *frameWriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	err := w.c.writeLocked(w.buf)
	w.buf = w.buf[:0]
	return err
}
