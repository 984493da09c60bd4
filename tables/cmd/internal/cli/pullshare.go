package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/go-partd/partd/tables/pull"
)

// pullCall is a command for a shared node. A program sends it as JSON.
type pullCall struct {
	Args []string // the command's arguments, without "pull"
	Out  string   // path of an existing file for the command's output
}

// runner runs a command line, and returns its exit code.
type runner func(ctx context.Context, args []string, a *app) int

// sharedNode is the context key for a shared *pull.Node.
type sharedNode struct{}

// sharePull shares a node with this user's programs, until the last one disconnects. Each connection receives a line
// with the node's URL, and may make one call. The answer is the command's error message as a JSON string, or "". If the
// node is closed during a call, there is no answer. The last program's connection is closed after the node, so that the
// program can wait for the end of the node.
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
