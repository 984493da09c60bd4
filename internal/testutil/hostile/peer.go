// Package hostile attacks a partd server with millions of conversations that no honest peer would
// have: random mutations of honest ones. It writes ZMTP itself, byte by byte, and shares no code with
// the server.
package hostile

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Flags of a ZMTP frame.
const (
	flagMore    = 1
	flagLong    = 2
	flagCommand = 4
)

// Peer is the client's end of a connection. All its operations together must end within its
// patience, unless ExtendDeadline is called.
type Peer struct {
	conn     net.Conn
	reader   *bufio.Reader
	patience time.Duration
}

// Dial connects to a server without a handshake. address is a host and port, or the path of a socket.
func Dial(ctx context.Context, network, address string, patience time.Duration) (*Peer, error) {
	return dial(ctx, &net.Dialer{}, network, address, patience)
}

func dial(ctx context.Context, d *net.Dialer, network, address string, patience time.Duration) (*Peer, error) {
	d.Timeout = patience
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	p := &Peer{conn: conn, reader: bufio.NewReader(conn), patience: patience}
	return p, p.ExtendDeadline()
}

// Open connects to a server, and performs the ZMTP handshake of an honest DEALER.
func Open(ctx context.Context, network, address string, patience time.Duration) (*Peer, error) {
	return open(ctx, &net.Dialer{}, network, address, patience)
}

// OpenFrom is like Open, but connects over TCP from the given local address.
func OpenFrom(ctx context.Context, localAddress, address string, patience time.Duration) (*Peer, error) {
	return open(ctx, &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(localAddress)}}, "tcp", address, patience)
}

func open(ctx context.Context, d *net.Dialer, network, address string, patience time.Duration) (*Peer, error) {
	p, err := dial(ctx, d, network, address, patience)
	if err != nil {
		return nil, err
	}
	if err := p.Handshake(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// ExtendDeadline gives later operations of the peer its whole patience again.
func (p *Peer) ExtendDeadline() error { return p.conn.SetDeadline(time.Now().Add(p.patience)) }

func (p *Peer) Close() error { return p.conn.Close() }

// Raw sends bytes unchanged.
func (p *Peer) Raw(b []byte) error {
	_, err := p.conn.Write(b)
	return err
}

// Handshake sends a DEALER's greeting and READY command, and reads the server's greeting and READY.
func (p *Peer) Handshake() error {
	if err := p.Raw(append(greeting(3, "NULL"), ready("DEALER", "")...)); err != nil {
		return err
	}
	return p.ReadGreeting()
}

// ReadGreeting reads the server's greeting and READY.
func (p *Peer) ReadGreeting() error {
	var greeting [64]byte
	if _, err := io.ReadFull(p.reader, greeting[:]); err != nil {
		return fmt.Errorf("the server's greeting: %w", err)
	}
	if greeting[0] != 0xff || greeting[9] != 0x7f || greeting[10] != 3 {
		return fmt.Errorf("the server's greeting begins with %x, want a greeting of ZMTP 3", greeting[:12])
	}
	flags, body, err := p.readFrame()
	if err != nil {
		return fmt.Errorf("the server's READY: %w", err)
	}
	if flags&flagCommand == 0 || len(body) < 6 || string(body[1:6]) != "READY" {
		return fmt.Errorf("the server sent %.20q in place of READY", body)
	}
	return nil
}

func (p *Peer) Send(frames ...string) error { return p.Raw(Message(frames...)) }

// Receive reads a message and returns its frames. It skips commands that precede the message.
func (p *Peer) Receive() ([]string, error) {
	var frames []string
	for {
		flags, body, err := p.readFrame()
		if err != nil {
			return nil, err
		}
		if flags&flagCommand != 0 {
			if len(frames) > 0 {
				return nil, errors.New("the server sent a command within a message")
			}
			continue
		}
		frames = append(frames, string(body))
		if flags&flagMore == 0 {
			return frames, nil
		}
	}
}

// maxReply is the maximum length of a frame from the server, in bytes.
const maxReply = 1 << 30

func (p *Peer) readFrame() (flags byte, body []byte, err error) {
	if flags, err = p.reader.ReadByte(); err != nil {
		return 0, nil, err
	}
	var n uint64
	if flags&flagLong != 0 {
		var b [8]byte
		if _, err := io.ReadFull(p.reader, b[:]); err != nil {
			return 0, nil, err
		}
		n = binary.BigEndian.Uint64(b[:])
	} else {
		b, err := p.reader.ReadByte()
		if err != nil {
			return 0, nil, err
		}
		n = uint64(b)
	}
	if flags&^(flagMore|flagLong|flagCommand) != 0 || n > maxReply {
		return 0, nil, fmt.Errorf("the server sent an invalid frame, with flags %#x and %d bytes", flags, n)
	}
	body = make([]byte, n)
	_, err = io.ReadFull(p.reader, body)
	return flags, body, err
}

// Ask sends a request, and returns an error unless the answer is the message want.
func (p *Peer) Ask(want []string, request ...string) error {
	if err := p.Send(request...); err != nil {
		return err
	}
	return p.expectReply(want, request)
}

// expectReply reads a message, and returns an error unless it is want. request is for the error.
func (p *Peer) expectReply(want, request []string) error {
	got, err := p.Receive()
	if err != nil {
		return fmt.Errorf("the answer to %.40q: %w", request, err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		return fmt.Errorf("the answer to %.40q is %.80q, want %.80q", request, got, want)
	}
	return nil
}

// Get reads values with the protocol of Python's partd.
func (p *Peer) Get(keys ...string) ([]string, error) {
	if err := p.Send(append([]string{"get"}, keys...)...); err != nil {
		return nil, err
	}
	values, err := p.Receive()
	if err != nil {
		return nil, err
	}
	if len(values) != len(keys) {
		return nil, fmt.Errorf("the answer to a get of %d keys has %d frames", len(keys), len(values))
	}
	return values, p.expectReply([]string{"ack"}, keys)
}

func greeting(major byte, mechanism string) []byte {
	b := make([]byte, 64)
	b[0], b[9], b[10] = 0xff, 0x7f, major
	copy(b[12:32], mechanism)
	return b
}

func ready(socketType, identity string) []byte {
	body := "\x05READY" + property("Socket-Type", socketType)
	if identity != "" {
		body += property("Identity", identity)
	}
	return frame(flagCommand, body)
}

func property(name, value string) string {
	b := append([]byte{byte(len(name))}, name...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(value)))
	return string(b) + value
}

func frame(flags byte, body string) []byte {
	if len(body) < 256 {
		return append([]byte{flags, byte(len(body))}, body...)
	}
	return append(falseHeader(flags, uint64(len(body))), body...)
}

// falseHeader returns the header of a long frame. n, the length in the header, may be wrong.
func falseHeader(flags byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{flags | flagLong}, n)
}

// Message returns the bytes of a message.
func Message(frames ...string) []byte {
	var b []byte
	for i, f := range frames {
		flags := byte(flagMore)
		if i == len(frames)-1 {
			flags = 0
		}
		b = append(b, frame(flags, f)...)
	}
	return b
}

// URL returns the URL of the server that the peer is connected to.
func (p *Peer) URL() string { return "tcp://" + p.conn.RemoteAddr().String() }
