//go:build cgo && linux

package flightd

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"
)

// attacker is an attack that several clients repeat concurrently.
type attacker struct {
	name    string
	clients int
	hosts   []string
	do      func(ctx context.Context, host string)
}

// withBearer returns a function that adds a token to a call's headers.
func withBearer(token string) func(context.Context) context.Context {
	return func(ctx context.Context) context.Context {
		return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
}

// httpClientFrom returns an HTTP client that connects from an address.
func httpClientFrom(host string) *http.Client {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}}
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: d.DialContext}}
}

// connect returns a connection that is closed when ctx is done.
func connect(ctx context.Context, host, address string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}, Timeout: 5 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err == nil {
		context.AfterFunc(ctx, func() { _ = conn.Close() })
	}
	return conn, err
}

// rawAttack returns a function that runs f on a new connection.
func rawAttack(address string, f func(ctx context.Context, c *rawClient)) func(context.Context, string) {
	return func(ctx context.Context, host string) {
		conn, err := connect(ctx, host, address)
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		f(ctx, newRawClient(conn))
	}
}

// readUntilClosed reads until the server closes the connection.
func (c *rawClient) readUntilClosed() {
	for {
		if _, err := c.framer.ReadFrame(); err != nil {
			return
		}
	}
}

// attacks returns all attacks except mutated puts, which TestMutatedPuts sends.
func attacks(t *testing.T, address, web string) []attacker {
	t.Helper()
	return slices.Concat(strangersAttacks(t, address, web), readersAttacks(t, address), bucketsAttacks(t, web), metadataAttacks(t, web))
}

// strangersAttacks returns attacks by clients without a token.
func strangersAttacks(t *testing.T, address, web string) []attacker {
	t.Helper()
	hosts := []string{"127.0.1.1", "127.0.1.2"}
	message := bomb(t, 16_000_000)
	holdConnections := func(address, text string, n int) func(context.Context, string) {
		return func(ctx context.Context, host string) {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			for range n {
				if conn, err := connect(ctx, host, address); err == nil {
					_, _ = io.WriteString(conn, text)
				}
			}
			pause(ctx, 5*time.Second)
		}
	}
	return []attacker{
		{"compressed unary calls", 4, hosts, rawAttack(address, func(_ context.Context, c *rawClient) {
			_, err := c.begin("GetFlightInfo", "grpc-encoding", "gzip")
			for rest := message; err == nil && len(rest) > 0; rest = rest[min(len(rest), 16<<10):] {
				err = c.framer.WriteData(1, false, rest[:min(len(rest), 16<<10)])
			}
			_ = c.SetDeadline(time.Now().Add(time.Second))
			c.readUntilClosed()
		})},
		{"unfinished unary messages", 24, hosts, rawAttack(address, func(_ context.Context, c *rawClient) {
			if stream, err := c.begin("GetFlightInfo"); err == nil && c.claim(stream, 249<<20) == nil {
				c.sendZeros(stream, 5*time.Second)
			}
		})},
		{"1,041 connections, each with a call that sends no message", 1, hosts[:1], func(ctx context.Context, host string) {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			for range 1041 {
				if conn, err := connect(ctx, host, address); err == nil {
					_, _ = newRawClient(conn).begin("Handshake")
				}
			}
			pause(ctx, 5*time.Second)
		}},
		{"300 unfinished sign-ins", 1, hosts[1:], holdConnections(web, "POST /api/sign-in HTTP/1.1\r\nHost: localhost\r\nX-Partd: 1\r\nContent-Length: 1000\r\n\r\n{", 300)},
		{"127 handshakes with headers of 60 KB", 8, hosts, rawAttack(address, func(ctx context.Context, c *rawClient) {
			go c.readUntilClosed()
			for range 127 {
				if _, err := c.begin("Handshake", "x", strings.Repeat("x", 60_000)); err != nil {
					return
				}
			}
			pause(ctx, 5*time.Second)
		})},
	}
}
