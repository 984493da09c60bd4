package filejobs

import (
	"context"
	"errors"
	"fmt"
	"io"

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

// ToStdout reports whether the standard output is written to.
func (o *Options) ToStdout() bool { return o.Output == "" || o.Output == Stdin }

// openSink begins the output.
func openSink(ctx context.Context, o *Options) (*sink, error) {
	if o.ToStdout() {
		return &sink{Writer: output.NewWriter(ctx, o.Out)}, nil
	}
	if err := zfile.CheckName(o.Output); err != nil {
		return nil, &OptionError{err}
	}
	f, err := output.Create(ctx, o.Output, o.Force)
	if errors.Is(err, output.ErrExists) {
		return nil, fmt.Errorf("%w: --force replaces it", err)
	}
	if err != nil {
		return nil, err
	}
	packer, err := zfile.NewWriter(zfile.ByName(o.Output), f, o.Threads)
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
