package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-partd/partd/tables/pull"
)

// connectTimeout is how long a shared node waits for the first program to connect.
const connectTimeout = time.Minute

// pullCall is a command for a shared node. A program sends it as JSON.
type pullCall struct {
	Args []string // the command's arguments, without "pull"
	Out  string   // path of an existing file for the command's output
}

// sharedNode is the context key for a shared *pull.Node.
type sharedNode struct{}

// sharePull shares a node with programs of this user, until the last program disconnects from the socket l. Each
// connection receives a line with the node's URL, and may make one call. The answer is the command's error message as a
// JSON string, or "". If the node is closed during a call, the call has no answer. The last program's connection is
// closed after the node, so that the program can wait until the node is closed.
func sharePull(ctx context.Context, n *pull.Node, l net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	context.AfterFunc(ctx, func() { _ = l.Close() })
	timer := time.AfterFunc(connectTimeout, stop)
	var mu sync.Mutex
	connections := map[net.Conn]bool{}
	for {
		c, err := l.Accept()
		if err != nil && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
			time.Sleep(50 * time.Millisecond) // for example, too many open files
			continue
		}
		if err != nil {
			break
		}
		timer.Stop()
		mu.Lock()
		connections[c] = true
		mu.Unlock()
		go func() {
			serveCall(ctx, n, c)
			mu.Lock()
			defer mu.Unlock()
			if len(connections) == 1 {
				stop()
				return
			}
			delete(connections, c)
			_ = c.Close()
		}()
	}
	err := n.Close()
	mu.Lock()
	defer mu.Unlock()
	for c := range connections {
		_ = c.Close()
	}
	return err
}

func serveCall(ctx context.Context, n *pull.Node, c net.Conn) {
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
		_ = json.NewEncoder(c).Encode(err.Error())
		return
	}
	var stderr strings.Builder
	code := run(ctx, append([]string{"pull"}, call.Args...), &app{in: os.Stdin, out: output, err: &stderr})
	if code != 0 && ctx.Err() != nil {
		_ = output.Close() // send no answer, because the call was canceled
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
