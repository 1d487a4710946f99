// Package results brings the files of a build to their place: staged in a hidden directory, named, listed with digests, synced, and only
// then renamed to their final names.
package results

import (
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
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/atomicfile"
	"github.com/imgbuild/imgbuild/internal/ctxio"
)

// The names of the files that list results.
const (
	ListFile = "kiwi.result.json"
	SumsFile = "SHA256SUMS"
)

// stagingPrefix begins the names of staging directories.
const stagingPrefix = ".imgbuild-results-"

// BaseName is what the names of a build's results begin with: <name>.<arch>-<version>.
func BaseName(d *description.Image) string { return d.Name + "." + d.Arch + "-" + d.Version }

// File is one result in its final place.
type File struct {
	Path   string `json:"path"`   // absolute
	Key    string `json:"key"`    // as in kiwi.result.json
	Size   int64  `json:"size"`   // bytes
	SHA256 string `json:"sha256"` // lower-case hexadecimal
}

// Staging is a directory for results that are not complete yet. It lies in the target directory, so that renaming is all that is left.
type Staging struct {
	Dir string
	// Naming is kept in kiwi.result.json for whoever bundles the results; nil for none.
	Naming *Naming
	target string
	lock   *os.File
}

// Stage makes a staging directory in target, which is made if it is missing, and removes those that dead processes left there.
func Stage(target string) (*Staging, error) {
	target, err := filepath.Abs(target)
	if err != nil {
		return nil, fmt.Errorf("finding the target directory: %w", err)
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return nil, fmt.Errorf("making the target directory: %w", err)
	}
	if err := removeStale(target); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(target, stagingPrefix)
	if err != nil {
		return nil, fmt.Errorf("making a directory for results: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("making a directory for results: %w", err)
	}
	return &Staging{Dir: dir, target: target, lock: lock}, nil
}

// errInUse says that another process holds the lock.
var errInUse = errors.New("in use")

// lockDir locks the directory itself; the lock ends with the process.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errInUse
		}
		return nil, err
	}
	return f, nil
}

// removeStale removes the staging directories whose process is gone.
func removeStale(target string) error {
	entries, err := os.ReadDir(target)
	if err != nil {
		return fmt.Errorf("looking for leftovers: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), stagingPrefix) {
			continue
		}
		dir := filepath.Join(target, e.Name())
		lock, err := lockDir(dir)
		if errors.Is(err, errInUse) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("looking for leftovers: %w", err)
		}
		err = os.RemoveAll(dir)
		lock.Close()
		if err != nil {
			return fmt.Errorf("removing what an interrupted build left: %w", err)
		}
	}
	return nil
}

// Discard removes the staging directory with all that is still in it.
func (s *Staging) Discard() error {
	err := os.RemoveAll(s.Dir)
	s.lock.Close()
	if err != nil {
		return fmt.Errorf("removing unfinished results: %w", err)
	}
	return nil
}

// listed is an entry of kiwi.result.json, as KIWI writes it.
type listed struct {
	Filename     string `json:"filename"`
	Compress     bool   `json:"compress"`
	Shasum       bool   `json:"shasum"`
	UseForBundle bool   `json:"use_for_bundle"`
}

// Publish syncs the staged files, writes the lists, and renames everything to its final name. An artifact without a key is not in
// kiwi.result.json. Files of earlier builds with other names
// stay. If it fails before the renaming, the target directory is as it was.
func (s *Staging) Publish(ctx context.Context, artifacts []image.Artifact) ([]File, error) {
	files := make([]File, len(artifacts))
	group, groupCtx := errgroup.WithContext(ctx)
	for i, a := range artifacts {
		group.Go(func() error {
			size, sum, err := complete(groupCtx, filepath.Join(s.Dir, a.File))
			files[i] = File{Path: filepath.Join(s.target, a.File), Key: a.Key, Size: size, SHA256: sum}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if err := s.writeLists(artifacts, files); err != nil {
		return nil, err
	}
	// While results change there are no lists: whoever finds lists finds the files that they name.
	for _, name := range []string{ListFile, SumsFile} {
		if err := os.Remove(filepath.Join(s.target, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("replacing the results of an earlier build: %w", err)
		}
	}
	names := make([]string, 0, len(artifacts)+2)
	for _, a := range artifacts {
		names = append(names, a.File)
	}
	for _, name := range append(names, ListFile, SumsFile) {
		if err := os.Rename(filepath.Join(s.Dir, name), filepath.Join(s.target, name)); err != nil {
			return nil, fmt.Errorf("putting %s in its place: %w", name, err)
		}
	}
	if err := atomicfile.SyncDir(s.target); err != nil {
		return nil, err
	}
	return files, s.Discard()
}

// complete syncs a file and returns its size and digest.
func complete(ctx context.Context, name string) (int64, string, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, "", fmt.Errorf("completing a result: %w", err)
	}
	defer f.Close()
	var group errgroup.Group
	group.Go(f.Sync)
	h := sha256.New()
	size, err := io.Copy(h, ctxio.Reader(ctx, f))
	if syncErr := group.Wait(); err == nil {
		err = syncErr
	}
	if err != nil {
		return 0, "", fmt.Errorf("completing %s: %w", name, err)
	}
	return size, hex.EncodeToString(h.Sum(nil)), nil
}

func (s *Staging) writeLists(artifacts []image.Artifact, files []File) error {
	list := map[string]any{}
	if s.Naming != nil {
		list[image.KeyBundleFormat] = s.Naming
	}
	var sums []string
	for i, a := range artifacts {
		if a.Key != "" {
			list[a.Key] = listed{Filename: files[i].Path, Compress: a.Compress, Shasum: true, UseForBundle: a.UseForBundle}
		}
		sums = append(sums, sumLine(files[i].SHA256, a.File))
	}
	text, err := json.MarshalIndent(list, "", "    ")
	if err != nil {
		return fmt.Errorf("writing %s: %w", ListFile, err)
	}
	if err := s.writeSynced(ListFile, append(text, '\n')); err != nil {
		return err
	}
	older, err := s.olderSums(artifacts)
	if err != nil {
		return err
	}
	sums = append(sums, older...)
	slices.SortFunc(sums, func(a, b string) int { return strings.Compare(a[sha256.Size*2:], b[sha256.Size*2:]) })
	return s.writeSynced(SumsFile, []byte(strings.Join(sums, "")))
}

// sumLine is a line as sha256sum writes and checks it.
func sumLine(sum, name string) string { return sum + "  " + name + "\n" }

// olderSums returns the lines of the target's SHA256SUMS for files that are there and not replaced now.
func (s *Staging) olderSums(artifacts []image.Artifact) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(s.target, SumsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the sums of earlier results: %w", err)
	}
	var keep []string
	for line := range strings.Lines(string(data)) {
		sum, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if !ok || len(sum) != sha256.Size*2 || name != filepath.Base(name) || slices.ContainsFunc(artifacts, func(a image.Artifact) bool { return a.File == name }) {
			continue
		}
		if _, err := os.Lstat(filepath.Join(s.target, name)); err == nil {
			keep = append(keep, sumLine(sum, name))
		}
	}
	return keep, nil
}

func (s *Staging) writeSynced(name string, data []byte) error {
	return atomicfile.Write(filepath.Join(s.Dir, name), 0o644, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
}
