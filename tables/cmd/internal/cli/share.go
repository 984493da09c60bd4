package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/tables/pull"
)

// connectTimeout is how long a shared server waits for the first program to connect.
const connectTimeout = time.Minute

// sharing keeps a server running until the last of this user's programs disconnects from a Unix socket.
type sharing struct {
	listener net.Listener

	mu          sync.Mutex
	connections map[net.Conn]bool
	isEnding    bool // whether the last program has disconnected
}

// listenShare listens on the Unix socket at path, which is the value of the flag --share.
func listenShare(path string) (*sharing, error) {
	l, err := remote.Listen("ipc://" + url.PathEscape(path))
	if err != nil {
		return nil, fmt.Errorf("--share: %w", err)
	}
	return &sharing{listener: l, connections: map[net.Conn]bool{}}, nil
}

// wait returns when the last program has disconnected, or when ctx is canceled. It calls serve for each connection and
// closes the connection afterwards, except the last one, which release closes.
func (s *sharing) wait(ctx context.Context, serve func(context.Context, net.Conn)) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	context.AfterFunc(ctx, func() { _ = s.listener.Close() }) // makes Accept return an error
	timer := time.AfterFunc(connectTimeout, stop)
	for {
		c, err := s.listener.Accept()
		if err != nil && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
			time.Sleep(50 * time.Millisecond) // wait, because the cause may pass, such as too many open files
			continue
		}
		if err != nil {
			return
		}
		timer.Stop()
		s.mu.Lock()
		s.connections[c] = true
		isEnding := s.isEnding
		s.mu.Unlock()
		if isEnding { // the program gets no URL, so it starts another server
			return
		}
		go func() {
			serve(ctx, c)
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.connections) == 1 {
				s.isEnding = true
				stop()
				return
			}
			delete(s.connections, c)
			_ = c.Close() // the program may have disconnected
		}()
	}
}

// endMessage returns the message for programs that wait until a server has stopped. err is the server's error.
func endMessage(err error) string {
	if err != nil {
		return fmt.Sprintf("failed: %v\n", err)
	}
	return "stopped\n"
}

// release sends message to the remaining programs and disconnects them. It must be called after the server has stopped,
// because the programs wait for that.
func (s *sharing) release(message string) {
	_ = s.listener.Close() // it may be closed already
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.connections {
		_, _ = io.WriteString(c, message) // the program may have disconnected
		_ = c.Close()
	}
}

// pullCall is a command for a shared node. A program sends it as JSON.
type pullCall struct {
	Args []string // the command's arguments, without "pull"
	Out  string   // path of an existing file for the command's output
}

// runner is a function that runs a command line and returns its exit code, such as runCommand.
type runner func(ctx context.Context, args []string, a *app) int

// sharedNode is the context key for a shared *pull.Node.
type sharedNode struct{}

// sharePull shares a node with this user's programs until the last one disconnects. Each connection receives a line with
// the node's URL and may make one call. The reply is the command's error message as a JSON string, or "". If the node is
// closed during a call, there is no reply. The last program's connection is closed after the node is closed, so that the
// program can wait for that.
func sharePull(ctx context.Context, n *pull.Node, s *sharing, run runner) error {
	defer s.release("")
	s.wait(ctx, func(ctx context.Context, c net.Conn) { serveCall(ctx, n, c, run) })
	return n.Close()
}

func serveCall(ctx context.Context, n *pull.Node, c net.Conn, run runner) {
	ctx, cancel := context.WithCancel(context.WithValue(ctx, sharedNode{}, n))
	defer cancel()
	reader := bufio.NewReader(c)
	var call pullCall
	_, err := fmt.Fprintln(c, n.Address())
	if err != nil || json.NewDecoder(reader).Decode(&call) != nil {
		return
	}
	go func() {
		_, _ = io.Copy(io.Discard, reader) // returns when the program disconnects
		cancel()
	}()
	output, err := os.OpenFile(call.Out, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		_ = json.NewEncoder(c).Encode(err.Error()) // fails if the program has disconnected
		return
	}
	var stderr strings.Builder
	code := run(ctx, append([]string{"pull"}, call.Args...), &app{in: os.Stdin, out: output, errOut: &stderr})
	if code != 0 && ctx.Err() != nil {
		_ = output.Close() // send no reply, because the call was canceled
		return
	}
	if code == 0 {
		stderr.Reset()
	}
	if err := output.Close(); err != nil {
		stderr.WriteString(err.Error())
	}
	_ = json.NewEncoder(c).Encode(stderr.String()) // fails if the program has disconnected
}
