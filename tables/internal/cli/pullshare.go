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

// unclaimed is how long a shared node waits for the first program that uses it.
const unclaimed = time.Minute

// pullCall is a command that a program has a shared node do: a line of JSON.
type pullCall struct {
	Args []string // without "pull"
	Out  string   // the path of a file that is there, for what the command writes
}

type sharedNode struct{}

// sharePull lets programs of this user have a node in common, until none is connected to
// the socket any more. Each connection gets a line with the node's URL. It may do one call,
// which is answered with the error that the command wrote, as JSON, or ""; or none. Where
// the node's end interrupts it there is no answer.
// Connections end after the node, so that who closes the last one can wait for that.
func sharePull(ctx context.Context, n *pull.Node, l net.Listener) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	context.AfterFunc(ctx, func() { _ = l.Close() })
	unused := time.AfterFunc(unclaimed, end)
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	for {
		c, err := l.Accept()
		if err != nil && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
			time.Sleep(50 * time.Millisecond) // there are too many files open
			continue
		}
		if err != nil {
			break
		}
		unused.Stop()
		mu.Lock()
		open[c] = true
		mu.Unlock()
		go func() {
			serveCall(ctx, n, c)
			mu.Lock()
			defer mu.Unlock()
			if len(open) == 1 {
				end()
				return
			}
			delete(open, c)
			_ = c.Close()
		}()
	}
	err := n.Close()
	mu.Lock()
	defer mu.Unlock()
	for c := range open {
		_ = c.Close()
	}
	return err
}

func serveCall(ctx context.Context, n *pull.Node, c net.Conn) {
	ctx, cancel := context.WithCancel(context.WithValue(ctx, sharedNode{}, n))
	defer cancel()
	in := bufio.NewReader(c)
	var call pullCall
	_, err := fmt.Fprintln(c, n.Address())
	if err != nil || json.NewDecoder(in).Decode(&call) != nil {
		return
	}
	go func() {
		_, _ = io.Copy(io.Discard, in) // until the program gives up, or has its answer
		cancel()
	}()
	out, err := os.OpenFile(call.Out, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		_ = json.NewEncoder(c).Encode(err.Error())
		return
	}
	var said strings.Builder
	code := run(ctx, append([]string{"pull"}, call.Args...), &app{in: os.Stdin, out: out, err: &said})
	if code != 0 && ctx.Err() != nil {
		_ = out.Close() // nobody knows what was done
		return
	}
	if code == 0 {
		said.Reset()
	}
	if err := out.Close(); err != nil {
		said.WriteString(err.Error())
	}
	_ = json.NewEncoder(c).Encode(said.String()) // to one who may be gone
}
