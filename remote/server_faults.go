package remote

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/zmtp"
)

// logFault logs a request that failed: at ERROR what the store could not do, at
// the level given what the peer did wrong.
func (c *conn) logFault(peers slog.Level, what string, err error, more ...any) {
	level := slog.LevelError
	if ofPeer(err) || c.server.base.Err() != nil {
		level = peers
	} else {
		c.server.meters.storeErrors.Add(1)
	}
	if isCancelled(err) || errors.Is(err, errDenied) {
		level = slog.LevelDebug // the client has gone, or the server ends; or the log has it
	}
	c.server.opts.Logger.Log(context.Background(), level, what, append(more, "peer", peerName(c.nc), "error", err)...)
}

func ofPeer(err error) bool {
	if isCancelled(err) {
		return true
	}
	if !errors.As(err, new(*partd.Error)) && (errors.Is(err, partd.ErrUnknownOutcome) || errors.As(err, new(*net.OpError))) {
		return true // of a result that is no longer kept, of the connection
	}
	if errors.As(err, new(*roomError)) {
		return errors.Is(err, syscall.EDQUOT) // a full disk is whose the server is
	}
	for _, e := range []error{
		ErrBadRequest, ErrBusy, ErrLost, partd.ErrTooLarge, zmtp.ErrTooLarge, errors.ErrUnsupported, errCommand, errFrames, errClose, errDenied,
		partd.ErrSessionExpired, partd.ErrSessionGap, partd.ErrSessionReused,
	} {
		if errors.Is(err, e) {
			return !errors.Is(err, partd.ErrUnknownOutcome)
		}
	}
	return false
}

// publicText is the text of an error, or of a part of it, as peers may see it:
// without the directories of the server's files. The log has them.
func publicText(text string, err error) string {
	for _, path := range pathsIn(err) {
		for _, dir := range []string{path, filepath.Dir(path)} {
			if dir != "" && dir != "." && dir != "/" {
				text = strings.ReplaceAll(text, dir+"/", "")
			}
		}
		text = strings.ReplaceAll(text, path, publicPath(path))
	}
	return text
}

func publicPath(path string) string {
	if path == "" {
		return ""
	}
	return filepath.Base(path)
}

// pathsIn returns the paths that an error and its causes name.
func pathsIn(err error) []string {
	var paths []string
	switch e := err.(type) {
	case *partd.Error:
		paths = append(paths, e.Path)
	case *partd.CorruptError:
		paths = append(paths, e.Path)
	case *fs.PathError:
		paths = append(paths, e.Path)
	case *os.LinkError:
		paths = append(paths, e.Old, e.New)
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if cause := e.Unwrap(); cause != nil {
			paths = append(paths, pathsIn(cause)...)
		}
	case interface{ Unwrap() []error }:
		for _, cause := range e.Unwrap() {
			paths = append(paths, pathsIn(cause)...)
		}
	}
	return paths
}
