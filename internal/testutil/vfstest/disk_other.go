//go:build !linux

package vfstest

import (
	"errors"
	"testing"
)

func mount(testing.TB, string, string, int64) error { return errors.ErrUnsupported }
func unmount(string) error                          { return errors.ErrUnsupported }
func flush(string) error                            { return errors.ErrUnsupported }
