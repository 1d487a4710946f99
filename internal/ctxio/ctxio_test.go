package ctxio

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestReaderEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	r := Reader(ctx, strings.NewReader("abcdef"))
	first := make([]byte, 3)
	if n, err := io.ReadFull(r, first); n != 3 || err != nil {
		t.Errorf("read %d bytes, %v", n, err)
	}
	stop := errors.New("stop")
	cancel(stop)
	if _, err := io.ReadAll(r); !errors.Is(err, stop) {
		t.Errorf("after the end: %v", err)
	}
}
