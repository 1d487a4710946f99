package podman

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/internal/testimage"
	"github.com/imgbuild/imgbuild/registry/manifest"
	"github.com/imgbuild/imgbuild/registry/store"
)

// TestTogether does at the same time all that holds or wants the lock of the library's layers, which a layer that is being read holds: nobody waits for
// somebody who waits in turn.
func TestTogether(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		s := openTest(t, p)
		var img v1.Image
		for i := range 4 {
			img = testImage(t, img, fmt.Sprint("layer", i), strings.Repeat(fmt.Sprint("content of ", i), 20_000))
		}
		if err := s.PutImage(t.Context(), "all", img); err != nil {
			t.Fatal(err)
		}
		empty := testimage.Empty(t, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		group, ctx := errgroup.WithContext(ctx)
		for round := range 3 {
			group.Go(func() error { return readBeginnings(ctx, s, round*700) })
			group.Go(func() error { return keepIndexes(ctx, s) })
			group.Go(func() error { return turnAround(ctx, s, fmt.Sprint("turned", round), empty) })
			dir := filepath.Join(t.TempDir(), "layout")
			group.Go(func() error { return copyOut(ctx, s, dir) })
			group.Go(func() error { return s.Tag(ctx, "all", fmt.Sprint("tag", round)) })
		}
		ended := make(chan error, 1)
		go func() { ended <- group.Wait() }()
		select {
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(6 * time.Minute):
			panic("they wait for each other") // which shows where
		}
		want := tars(t, img)
		for _, name := range []string{"all", "tag2"} {
			got, err := s.Image(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(tars(t, got), want) {
				t.Errorf("%s differs", name)
			}
		}
		slices.Reverse(want)
		got, err := s.Image(t.Context(), "turned0")
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(tars(t, got), want) {
			t.Error("the image with its layers turned around differs")
		}
	})
}

// layersOf are those of the container "all".
func layersOf(ctx context.Context, s *Store) ([]v1.Layer, error) {
	img, err := s.Image(ctx, "all")
	if err != nil {
		return nil, err
	}
	return img.Layers()
}

// readBeginnings reads all layers at once, each up to a byte, and then in the middle.
func readBeginnings(ctx context.Context, s *Store, n int) error {
	list, err := layersOf(ctx, s)
	if err != nil {
		return err
	}
	var group errgroup.Group
	for _, l := range list {
		group.Go(func() error {
			r, err := l.Compressed()
			if err != nil {
				return err
			}
			if _, err := io.CopyN(io.Discard, r, int64(n)); err != nil {
				return err
			}
			if err := r.Close(); err != nil {
				return err
			}
			blob, err := l.(manifest.BlobLayer).OpenBlob()
			if err != nil {
				return err
			}
			if _, err := blob.ReadAt(make([]byte, 100), 1000); err != nil {
				return err
			}
			return blob.Close()
		})
	}
	return group.Wait()
}

// keepIndexes puts something beside each layer and reads it.
func keepIndexes(ctx context.Context, s *Store) error {
	list, err := layersOf(ctx, s)
	if err != nil {
		return err
	}
	for _, l := range list {
		diffID, err := l.DiffID()
		if err != nil {
			return err
		}
		sum := digest.Digest(diffID.String())
		if err := s.PutIndex(ctx, sum, func(w io.Writer) error { _, err := io.WriteString(w, "index"); return err }); err != nil {
			return err
		}
		r, err := s.Index(sum)
		if err != nil {
			return err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if err := r.Close(); err != nil || !bytes.Equal(data, []byte("index")) {
			return fmt.Errorf("the index is %q, %w", data, err)
		}
	}
	return nil
}

// turnAround makes a container of the same layers in the opposite order, out of the storage itself.
func turnAround(ctx context.Context, s *Store, name string, empty v1.Image) error {
	return s.Update(ctx, name, func(ctx context.Context, _ v1.Image) (v1.Image, error) {
		list, err := layersOf(ctx, s)
		if err != nil {
			return nil, err
		}
		img := empty
		for _, l := range slices.Backward(list) {
			if img, err = mutate.Append(img, mutate.Addendum{Layer: l, MediaType: types.OCIUncompressedLayer}); err != nil {
				return nil, err
			}
		}
		return img, nil
	})
}

// copyOut copies the container into another store, several layers at once.
func copyOut(ctx context.Context, s *Store, dir string) error {
	img, err := s.Image(ctx, "all")
	if err != nil {
		return err
	}
	layout, err := store.Open(dir, store.Options{})
	if err != nil {
		return err
	}
	defer layout.Close()
	return layout.PutImage(ctx, "all", img)
}
