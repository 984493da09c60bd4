package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/output"
	"github.com/go-partd/partd/internal/zfile"
)

// sink is where a command writes its output: a file that is there whole or not
// at all, compressed as its name says, or standard output.
type sink struct {
	*output.Writer
	file   *output.File // nil: standard output
	packer io.WriteCloser
	closed bool
}

// openSink begins an output. An empty path, or -, is standard output.
func (a *app) openSink(ctx context.Context, path string, replace bool, threads int) (*sink, error) {
	if path == "" || path == stdin {
		a.catchBrokenPipe()
		return &sink{Writer: output.NewWriter(ctx, a.out)}, nil
	}
	if err := zfile.CheckName(path); err != nil {
		return nil, cliutil.UsageError{Err: err}
	}
	f, err := output.Create(path, replace)
	if errors.Is(err, output.ErrExists) {
		return nil, fmt.Errorf("%w: --force replaces it", err)
	}
	if err != nil {
		return nil, err
	}
	packer, err := zfile.NewWriter(zfile.ByName(path), f, threads)
	if err != nil {
		return nil, errors.Join(err, f.Abort())
	}
	return &sink{Writer: output.NewWriter(ctx, packer), file: f, packer: packer}, nil
}

// commit ends the output: a file gets its name.
func (s *sink) commit() error {
	if err := s.end(); err != nil || s.file == nil {
		return err
	}
	return s.file.Commit()
}

// end writes what is left.
func (s *sink) end() error {
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.Close()
	if err == nil && s.packer != nil {
		err = s.packer.Close()
	}
	return err
}

// abort gives the output up, unless it was committed.
func (s *sink) abort() error {
	// The error of the output is why it is given up, or does not matter now.
	_ = s.end()
	if s.file == nil {
		return nil
	}
	return s.file.Abort()
}

// catchBrokenPipe makes a write to a pipe that nobody reads any more fail,
// instead of ending the process at once: temporary data have to go first.
func (a *app) catchBrokenPipe() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	a.catchesPipe.Store(true)
}

// brokenPipe ends the process as a broken pipe ends any, if one was the reason
// of an error.
func (a *app) brokenPipe(err error) bool {
	if !a.catchesPipe.Load() || !errors.Is(err, syscall.EPIPE) {
		return false
	}
	// The runtime ends the process when a write to a broken standard output fails,
	// if nobody asked for the signal.
	signal.Reset(syscall.SIGPIPE)
	_, _ = os.Stdout.Write([]byte{'\n'})
	return true
}
