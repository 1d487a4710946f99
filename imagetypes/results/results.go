// Package results brings the files of a build to their place: staged in a hidden directory, named, listed with digests, synced, and only
// then renamed to their final names.
package results

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/atomicfile"
	"github.com/imgbuild/imgbuild/internal/lockeddir"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/sums"
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
	Path   string `json:"path"`           // absolute
	Key    string `json:"key"`            // as in kiwi.result.json of a build for one image type
	Type   string `json:"type,omitempty"` // the image type, "" for what belongs to none or to several
	Size   int64  `json:"size"`           // bytes
	SHA256 string `json:"sha256"`         // lower-case hexadecimal
}

// Staging is a directory for results that are not complete yet. It lies in the target directory, so that renaming is all that is left.
type Staging struct {
	Dir      string
	Progress progress.Reporter // shows the counting of check sums; nil does not
	target   string
	dir      *lockeddir.Dir
	made     bool // the target directory was not there
}

// Stage makes a staging directory in target, which is made if it is missing, and removes those that dead processes left there.
func Stage(target string) (*Staging, error) {
	target, err := filepath.Abs(target)
	if err != nil {
		return nil, fmt.Errorf("finding the target directory: %w", err)
	}
	_, missing := os.Lstat(target)
	if err := os.MkdirAll(target, 0o755); err != nil {
		return nil, fmt.Errorf("making the target directory: %w", err)
	}
	if err := lockeddir.RemoveStale(target, stagingPrefix); err != nil {
		return nil, fmt.Errorf("removing what an interrupted build left: %w", err)
	}
	dir, err := lockeddir.Make(target, stagingPrefix)
	if err != nil {
		return nil, fmt.Errorf("making a directory for results: %w", err)
	}
	return &Staging{Dir: dir.Name(), target: target, dir: dir, made: missing != nil}, nil
}

// Discard removes the staging directory with all that is still in it.
func (s *Staging) Discard() error {
	if err := s.dir.Remove(); err != nil {
		return fmt.Errorf("removing unfinished results: %w", err)
	}
	if s.made {
		_ = os.Remove(s.target) // there is something in it, but for a build that has failed
	}
	return nil
}

// Part is what one image type adds to the results.
type Part struct {
	// Type is the image type, "" for files that belong to none.
	Type string
	// Dir is where the files lie: in the staging directory.
	Dir       string
	Artifacts []image.Artifact
	// Naming is kept in kiwi.result.json for whoever bundles the results; nil for none.
	Naming *Naming
}

// Publish syncs the staged files, writes the lists, and renames everything to its final name. An artifact without a key is not in
// kiwi.result.json. Files of earlier builds with other names stay. If it fails before the renaming, the target directory is as it was.
func (s *Staging) Publish(ctx context.Context, parts ...Part) ([]File, error) {
	staged, err := s.complete(ctx, parts)
	if err != nil {
		return nil, err
	}
	if staged, err = merge(staged); err != nil {
		return nil, err
	}
	if err := s.writeLists(parts, staged); err != nil {
		return nil, err
	}
	// While results change there are no lists: whoever finds lists finds the files that they name.
	for _, name := range []string{ListFile, SumsFile} {
		if err := os.Remove(filepath.Join(s.target, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("replacing the results of an earlier build: %w", err)
		}
	}
	files := make([]File, len(staged))
	for i, f := range staged {
		files[i] = File{Path: filepath.Join(s.target, f.name), Key: f.Key, Type: f.kind, Size: f.size, SHA256: f.sum}
		if err := os.Rename(f.from, files[i].Path); err != nil {
			return nil, fmt.Errorf("putting %s in its place: %w", f.name, err)
		}
	}
	for _, name := range []string{ListFile, SumsFile} {
		if err := os.Rename(filepath.Join(s.Dir, name), filepath.Join(s.target, name)); err != nil {
			return nil, fmt.Errorf("putting %s in its place: %w", name, err)
		}
	}
	if err := atomicfile.SyncDir(s.target); err != nil {
		return nil, err
	}
	return files, s.Discard()
}

// staged is a file that is about to become a result.
type staged struct {
	image.Artifact
	kind string // the image type, "" for none or for several
	from string // where it lies
	name string // what it will be called
	size int64
	sum  string
}

// complete syncs the files of all parts.
func (s *Staging) complete(ctx context.Context, parts []Part) ([]staged, error) {
	var files []staged
	for _, p := range parts {
		for _, a := range p.Artifacts {
			files = append(files, staged{Artifact: a, kind: p.Type, from: filepath.Join(p.Dir, a.File), name: a.File})
		}
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range files {
		f := &files[i]
		group.Go(func() (err error) {
			f.size, f.sum, err = complete(groupCtx, f.from, f.SHA256, s.Progress)
			return err
		})
	}
	return files, group.Wait()
}

// merge makes one of files that several image types have alike: lists of packages. Where such lists differ each gets the name of its type. That two images have one
// name is an error.
func merge(files []staged) ([]staged, error) {
	same := map[string][]int{}
	for i, f := range files {
		same[f.name] = append(same[f.name], i)
	}
	var merged []staged
	for i, f := range files {
		all := same[f.name]
		first := files[all[0]]
		switch {
		case len(all) == 1:
		case !isList(f.Key):
			other := files[all[1]]
			return nil, fmt.Errorf("completing the results: image types %s and %s both make a file %s; build one of them by itself", first.kind, other.kind, f.name)
		case !slices.ContainsFunc(all, func(j int) bool { return files[j].sum != first.sum }):
			if i != all[0] {
				continue
			}
			f.kind = ""
		default:
			extension := filepath.Ext(f.name)
			f.name = strings.TrimSuffix(f.name, extension) + "." + f.kind + extension
		}
		merged = append(merged, f)
	}
	return merged, nil
}

// isList reports whether a result is a list of what the root tree holds.
func isList(key string) bool {
	return key == image.KeyPackages || key == image.KeyChanges || key == image.KeyVerified
}

// complete syncs a file and returns its size and digest, which may be known already.
func complete(ctx context.Context, name, known string, reporter progress.Reporter) (int64, string, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, "", fmt.Errorf("completing a result: %w", err)
	}
	defer f.Close()
	var group errgroup.Group
	group.Go(f.Sync)
	info, err := f.Stat()
	sum := known
	if err == nil && sum == "" {
		sum, _, err = sums.SHA256(ctx, f, cmp.Or(reporter, progress.Discard))
	}
	if syncErr := group.Wait(); err == nil {
		err = syncErr
	}
	if err != nil {
		return 0, "", fmt.Errorf("completing %s: %w", name, err)
	}
	return info.Size(), sum, nil
}

func (s *Staging) writeLists(parts []Part, files []staged) error {
	text, err := json.MarshalIndent(s.list(parts, files), "", "    ")
	if err != nil {
		return fmt.Errorf("writing %s: %w", ListFile, err)
	}
	if err := s.writeSynced(ListFile, append(text, '\n')); err != nil {
		return err
	}
	lines, err := s.olderSums(files)
	if err != nil {
		return err
	}
	for _, f := range files {
		lines = append(lines, sumLine(f.sum, f.name))
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[sha256.Size*2:], b[sha256.Size*2:]) })
	return s.writeSynced(SumsFile, []byte(strings.Join(lines, "")))
}

func (s *Staging) writeSynced(name string, data []byte) error {
	return atomicfile.Write(filepath.Join(s.Dir, name), 0o644, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
}
