package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/following"
	"github.com/go-partd/partd/tables/internal/faces/formats"
)

// followFlags holds the flags of the command changes for following a table.
type followFlags struct {
	follow bool
	state  string
	every  time.Duration
}

func addFollowFlags(cmd *cobra.Command) *followFlags {
	f, fl := new(followFlags), cmd.Flags()
	fl.BoolVar(&f.follow, "follow", false, "also write the changes of later versions, until the command is stopped")
	cliutil.Experimental(cmd, "follow")
	fl.DurationVar(&f.every, "every", following.DefaultEvery, "with --follow, check for changes every `DURATION`")
	fl.StringVar(&f.state, "state", "", "with --follow, save the position in the changes to this `FILE` and continue from it")
	return f
}

// check returns an error if the flags cannot be combined. It also chooses the format of the output.
func (f *followFlags) check(cmd *cobra.Command, p location, output *rowOutput) (err error) {
	fl := cmd.Flags()
	switch {
	case !f.follow && (fl.Changed("state") || fl.Changed("every")):
		return cliutil.Usagef("--state and --every need --follow")
	case !f.follow:
		return nil
	case f.every < 10*time.Millisecond:
		return cliutil.Usagef("--every is %s: use at least 10ms", f.every)
	case fl.Changed("version") || fl.Changed("at") || fl.Changed("snapshot"):
		return cliutil.Usagef("--follow writes the newest versions: leave out --version, --at and --snapshot")
	case output.force:
		return cliutil.Usagef("--follow appends to a file: leave out --force")
	case *p.server == "" && !strings.HasPrefix(*p.catalog, "postgres"):
		return cliutil.Usagef("--follow would lock other programs out of the directory: use --server, or a catalog in PostgreSQL")
	}
	if output.file == "-" {
		output.file = ""
	}
	if output.file != "" && f.state == "" {
		return cliutil.Usagef("--follow with -o needs --state, so that a later run continues the file")
	}
	if output.file != "" && filepath.Clean(output.file) == filepath.Clean(f.state) {
		return cliutil.Usagef("-o and --state name the same file: set --state to another file")
	}
	output.chosenFormat, err = findFormat("follow with --format", cmp.Or(output.format, "jsonl"), output.a.formats.Growing())
	return err
}

// followState is the content of the file named by --state.
type followState struct {
	Version tables.Version `json:"version"`
	UUID    string         `json:"uuid"`
	Bytes   int64          `json:"bytes"` // size of the output file
	End     string         `json:"end"`   // hash of the output file's last bytes, to detect a wrong file
	// Writing is set while a run adds a version's rows to the output file: the file's inode number, or 0 on Windows.
	Writing *uint64 `json:"writing,omitempty"`
}

// follower writes the changes to a table and saves its position in a file.
type follower struct {
	*followFlags
	followState
	options   following.Options
	output    *rowOutput    // has a format of formats.Set.Growing
	buffered  *bufio.Writer // writes to file or to standard output
	file      *os.File      // nil for standard output
	inode     uint64        // inode number of file
	onWritten func() error  // called after each version

	columns *arrow.Schema // columns of the Arrow stream; nil before its first rows
	stream  *ipc.Writer   // nil before the first rows of this run
}

// Write writes to the output and adds the number of bytes to Bytes.
func (f *follower) Write(p []byte) (int, error) {
	n, err := f.buffered.Write(p)
	f.Bytes += int64(n)
	return n, err
}

// run writes the changes to a table until ctx is canceled.
func (l *followFlags) run(ctx context.Context, a *app, s backend, output *rowOutput, bucket, name string, since tables.At, o *tables.ChangesOptions, asJSON bool) (err error) {
	f := &follower{followFlags: l, output: output, buffered: bufio.NewWriterSize(a.out, 1<<16), onWritten: func() error { return nil }}
	f.options = following.Options{
		Since: since, UUID: o.UUID, Every: l.every, Idle: func() error { return nil },
		Info: func(ctx context.Context) (tables.TableInfo, error) {
			info, _, err := s.Describe(ctx, bucket, name, nil)
			return info, err
		},
		Changes: func(ctx context.Context, since tables.At, uuid string) (*tables.Changes, error) {
			return s.Changes(ctx, bucket, name, nil, since, &tables.ChangesOptions{Keys: o.Keys, UUID: uuid})
		},
	}
	if asJSON {
		f.onWritten = func() error {
			return json.NewEncoder(a.errOut).Encode(map[string]any{"version": f.Version, "uuid": f.UUID})
		}
	}
	if err := f.readState(); err != nil {
		return err
	}
	if output.file == "" {
		f.Bytes = 0 // counts only this run's output
		return following.Follow(ctx, &f.options, f.write)
	}
	if err := f.openFile(output.file); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.file.Close()) }()
	return following.Follow(ctx, &f.options, f.write)
}

// readState sets the position from the file named by --state, if it exists.
func (f *follower) readState() error {
	if f.state == "" {
		return nil
	}
	const maxState = 4096
	file, err := os.Open(f.state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxState))
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err = d.Decode(&f.followState)
	if err != nil || f.Version < 0 || f.Bytes < 0 || f.UUID == "" && (f.End == "" || f.Bytes > 0) {
		return fmt.Errorf("%s is not a state file that changes --follow wrote: set --state to another file", f.state)
	}
	if f.UUID != "" {
		f.options.Since, f.options.UUID = tables.AtVersion(f.Version), f.UUID
	}
	return nil
}

// openFile opens the output file and removes the incomplete rows of a killed run.
func (f *follower) openFile(path string) error {
	flags := os.O_RDWR
	if f.Bytes == 0 {
		flags |= os.O_CREATE
	}
	file, err := os.OpenFile(path, flags, 0o666)
	if err != nil {
		return err
	}
	info, err := vfs.OS{}.Info(path)
	switch {
	case err == nil && !info.Mode.IsRegular():
		err = fmt.Errorf("%s is not a regular file: leave out -o to write to the standard output", path)
	case err == nil && info.Size > 0 && f.End == "":
		err = fmt.Errorf("%s has rows, but %s does not say where they end: use another output file, or the state file that belongs to this one", path, f.state)
	case err == nil:
		f.file, f.buffered = file, bufio.NewWriterSize(file, 1<<16)
		err = f.rewind(path, info)
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	f.inode = info.Ino
	return nil
}

// rewind truncates the file to its size in the state. It returns an error if that would remove bytes, unless the state
// says that a run was writing them to this file.
func (f *follower) rewind(path string, info vfs.Info) error {
	end, err := f.hashEnd()
	switch {
	case err == io.EOF || err == nil && f.End != "" && end != f.End:
		return fmt.Errorf("%s is not the file to which %s belongs: name the right one, or remove both and start again", path, f.state)
	case err == nil && info.Size > f.Bytes && (f.Writing == nil || *f.Writing != info.Ino):
		return fmt.Errorf("%s has %d bytes, but %s describes only %d of them and records no killed run that added the rest: name another file, or truncate this one to %[4]d bytes", path, info.Size, f.state, f.Bytes)
	}
	if err == nil {
		err = f.file.Truncate(f.Bytes)
	}
	if err == nil {
		_, err = f.file.Seek(f.Bytes, io.SeekStart)
	}
	if err == nil && f.End == "" { // save the state now, so that a later run can remove incomplete rows of the first version
		f.End = end
		err = f.saveState()
	}
	return err
}

func (f *follower) saveState() error {
	state := f.followState
	if f.file == nil {
		state.Bytes, state.End, state.Writing = 0, "", nil
	}
	text, err := json.Marshal(state)
	if err != nil || f.state == "" {
		return err
	}
	return vfs.Replace(f.state, filepath.Dir(f.state), "."+filepath.Base(f.state)+"-*", append(text, '\n'))
}

// hashEnd returns a hash of the last bytes (up to 4 KiB) before the file's size in the state.
func (f *follower) hashEnd() (string, error) {
	last := make([]byte, min(f.Bytes, 4096))
	_, err := f.file.ReadAt(last, f.Bytes-int64(len(last)))
	sum := sha256.Sum256(last)
	return hex.EncodeToString(sum[:8]), err
}

// write writes the rows of changes, and then the state.
func (f *follower) write(c *tables.Changes) error {
	r := following.WithVersion(c)
	defer r.Release()
	write := f.writeLines
	if f.output.chosenFormat.IsArrow {
		write = f.writeArrow
	}
	if f.file != nil { // save the state now: if this run is killed, the next run removes the incomplete rows
		f.Writing = &f.inode
		if err := f.saveState(); err != nil {
			return err
		}
	}
	err := errors.Join(write(r), f.buffered.Flush())
	if err == nil && f.file != nil {
		err = f.file.Sync()
	}
	if err == nil && f.file != nil {
		f.End, err = f.hashEnd()
	}
	if err != nil {
		return err
	}
	f.Version, f.UUID, f.Writing = c.Version, c.UUID, nil
	if err := f.saveState(); err != nil {
		return err
	}
	return f.onWritten()
}

func (f *follower) writeLines(r array.RecordReader) error { return f.output.writeRows(f, r, true) }

// writeArrow writes rows to the Arrow stream, whose columns cannot change.
func (f *follower) writeArrow(r array.RecordReader) error {
	if f.stream == nil {
		if err := f.beginStream(r.Schema()); err != nil {
			return err
		}
	}
	if !r.Schema().Equal(f.columns) {
		return f.columnsError()
	}
	for r.Next() {
		if err := f.stream.Write(r.RecordBatch()); err != nil {
			return err
		}
	}
	return r.Err()
}

func (f *follower) columnsError() error {
	return fmt.Errorf("the columns of the table have changed since version %d, but the columns of an Arrow stream cannot change: continue with --since %[1]d and other files for -o and --state", f.Version)
}

// beginStream sets columns and stream. If the file already has rows, the stream continues the stream in the file.
func (f *follower) beginStream(columns *arrow.Schema) error {
	var header bytes.Buffer
	if err := ipc.NewWriter(&header, ipc.WithSchema(columns)).Close(); err != nil {
		return err
	}
	const endLen = 8 // length of the end-of-stream marker
	header.Truncate(header.Len() - endLen)
	f.columns, f.stream = columns, ipc.NewWriter(f, ipc.WithSchema(columns))
	if f.Bytes == 0 {
		return nil
	}
	storedHeader := make([]byte, header.Len())
	_, err := f.file.ReadAt(storedHeader, 0)
	if err == nil && !bytes.Equal(storedHeader, header.Bytes()) || err == io.EOF {
		return f.columnsError()
	}
	if err != nil {
		return err
	}
	f.stream = ipc.NewWriter(&formats.Skipper{Writer: f, N: header.Len()}, ipc.WithSchema(columns))
	return nil
}
