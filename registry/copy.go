package registry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"

	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/registry/archive"
	"github.com/imgbuild/imgbuild/registry/reference"
	"github.com/imgbuild/imgbuild/registry/remote"
	"github.com/imgbuild/imgbuild/registry/store"
)

// Pull fetches a container into the store, from wherever it is. Out of an archive or another storage it gets the name that it has there.
func (c *Client) Pull(ctx context.Context, name string, opts FetchOptions) (*Image, error) {
	img, err := c.Fetch(ctx, name, opts)
	if err != nil || img.store == c.store {
		return img, err
	}
	own := archiveName(img)
	if own == "" {
		return nil, fmt.Errorf("pulling %s: it has no name there that the store could keep it under; give it one on the way with imgbuild push %s oci:%s:NAME:TAG",
			name, name, c.store.Place())
	}
	if _, err := put(ctx, c.store, own, img); err != nil {
		return nil, err
	}
	stored, err := c.store.Image(ctx, own)
	if err != nil {
		return nil, err
	}
	return newImage(stored, store.FullName(own), img.From, c.store)
}

// Push sends a container to destination: a full name with its registry, or any transport that Copy knows. Without a destination the
// container's own name must have a registry. It returns the digest of the manifest as it is there.
func (c *Client) Push(ctx context.Context, name, destination string) (digest.Digest, error) {
	if destination == "" {
		destination = name
	}
	ref, err := reference.Parse(destination)
	if err != nil {
		return "", err
	}
	if ref.Transport == reference.None {
		ref.Transport = reference.Docker
		if ref.Domain == "" {
			return "", fmt.Errorf("pushing %s: say to which registry, as in imgbuild push %s registry.example.org/%s", name, name, ref.Name())
		}
	}
	sum, err := c.copyTo(ctx, name, ref, FetchOptions{Pull: PullNever})
	if errors.Is(err, errNeverPulled) {
		err = fmt.Errorf("pushing %s: %w; imgbuild images lists what is", name, ErrNotFound)
	}
	return sum, err
}

// Copy fetches a container and writes it to destination: a name of the store, or docker://, oci:, oci-archive:, docker-archive:, dir: or
// containers-storage: with what belongs to it. It returns the digest of the manifest as it is there; empty where the form has no manifest.
func (c *Client) Copy(ctx context.Context, source, destination string, opts FetchOptions) (digest.Digest, error) {
	ref, err := reference.Parse(destination)
	if err != nil {
		return "", err
	}
	return c.copyTo(ctx, source, ref, opts)
}

func (c *Client) copyTo(ctx context.Context, source string, ref reference.Reference, opts FetchOptions) (digest.Digest, error) {
	img, err := c.Fetch(ctx, source, opts)
	if err != nil {
		return "", err
	}
	switch ref.Transport {
	case reference.None:
		return put(ctx, c.store, storeName(ref), img)
	case reference.Docker:
		ref.Transport = reference.None
		return c.push(ctx, img, ref)
	case reference.ContainersStorage:
		s, err := c.podmanStore(ctx, ref.Path)
		if err != nil {
			return "", err
		}
		ref.Transport, ref.Path = reference.None, ""
		return put(ctx, s, storeName(ref), img)
	}
	return c.writeArchive(ctx, img, ref)
}

// put stores an image under a name.
func put(ctx context.Context, s Store, name string, img *Image) (digest.Digest, error) {
	err := s.Update(ctx, name, func(context.Context, v1.Image) (v1.Image, error) { return img.Image, nil })
	if err != nil {
		return "", err
	}
	stored, err := s.Image(ctx, name)
	if err != nil {
		return "", err
	}
	sum, err := stored.Digest()
	return digest.Digest(sum.String()), err
}

func (c *Client) push(ctx context.Context, img *Image, ref reference.Reference) (digest.Digest, error) {
	client, err := c.remote()
	if err != nil {
		return "", err
	}
	sent := img.Image
	if img.store != nil && !img.store.KeepsBlobs() {
		packed, err := compress(ctx, img.Image)
		if err != nil {
			return "", fmt.Errorf("pushing %s: %w", img.Name, err)
		}
		defer packed.Close()
		sent = packed
	}
	var opts remote.PushOptions
	if from, err := reference.Parse(img.Name); err == nil && from.IsRemote() {
		opts.MountFrom = append(opts.MountFrom, from)
	}
	sum, err := client.Push(ctx, sent, ref, opts)
	if err != nil {
		return "", err
	}
	return digest.Digest(sum.String()), nil
}

// archiveName returns the name that an archive gives a container: that under which it is known here, if that is one.
func archiveName(img *Image) string {
	if ref, err := reference.Parse(img.Name); err != nil || ref.Transport != reference.None || ref.Digest != "" {
		return ""
	}
	return img.Name
}

func (c *Client) writeArchive(ctx context.Context, img *Image, ref reference.Reference) (digest.Digest, error) {
	name := archiveName(img)
	if ref.Transport == reference.OCI && isStore(ref.Path) {
		if ref.Image != "" {
			name = ref.Image
		}
		if name == "" {
			return "", fmt.Errorf("writing %s: it is a store of imgbuild's, in which every container has a name: add one after a colon", ref)
		}
		s, err := store.Open(ref.Path, store.Options{Progress: c.opts.Progress, Log: c.opts.Log})
		if err != nil {
			return "", err
		}
		defer s.Close()
		return put(ctx, layoutStore{s}, name, img)
	}
	m, err := img.Manifest()
	if err != nil {
		return "", err
	}
	var total int64
	for _, l := range m.Layers {
		total += l.Size
	}
	if ref.Transport == reference.DockerArchive {
		total = 0 // it takes the layers uncompressed, and how large they are is not known before
	}
	task := c.opts.Progress.Start("writing "+ref.Path, total, progress.Bytes)
	err = archive.Write(ctx, ref, img.Image, archive.WriteOptions{Name: name, Progress: task.Add})
	task.Done(err)
	if err != nil || ref.Transport == reference.DockerArchive {
		return "", err
	}
	a, err := archive.Open(ctx, withName(ref, name), archive.Options{})
	if err != nil {
		return "", err
	}
	defer a.Close()
	sum, err := a.Digest()
	return digest.Digest(sum.String()), err
}

func withName(ref reference.Reference, name string) reference.Reference {
	if ref.Image == "" && ref.Transport != reference.Dir {
		ref.Image = name
	}
	return ref
}

// isStore reports whether a directory is a store of imgbuild's, which has locks to be kept.
func isStore(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, "imgbuild", "lock"))
	return err == nil && info.Mode().IsRegular() && !strings.HasSuffix(dir, "imgbuild")
}
