package apt

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/description"
)

// Download is a package's archive that an installation needs.
type Download struct {
	File   string // its name, NAME_VERSION_ARCH.deb, with the epoch's colon as %3a
	Size   int64  // bytes
	SHA256 string // hexadecimal, "" if the repository tells none
}

// Package returns the name and version.
func (d Download) Package() (name, version string) {
	parts := strings.Split(strings.TrimSuffix(d.File, ".deb"), "_")
	if len(parts) < 2 {
		return d.File, ""
	}
	return parts[0], strings.ReplaceAll(parts[1], "%3a", ":")
}

// resolve asks apt what an installation needs, and by how many bytes the tree would grow.
func (s *Session) resolve(ctx context.Context, packages []description.Package, recommended bool) (downloads []Download, growth int64, err error) {
	spec := s.spec(append([]string{"apt-get", "-q", "-c", insideDir + "/apt.conf", "install", "--print-uris", recommends(recommended), "--"}, description.Names(packages)...)...)
	spec.Title = "apt-get install --print-uris"
	var answer strings.Builder
	complaints := &output{task: silent{}, log: s.opts.Log, redact: s.sources.secrets}
	spec.Stdout, spec.Stderr = &answer, complaints
	err = s.opts.Run(ctx, spec)
	complaints.flush()
	if err != nil {
		_, _ = complaints.Write([]byte(answer.String())) // unmet dependencies are explained on standard output
		complaints.flush()
		return nil, 0, fmt.Errorf("resolving packages: %w", s.explain(err, complaints, packages))
	}
	return parseURIs(answer.String()), parseGrowth(answer.String()), nil
}

// silent is a task that nobody sees.
type silent struct{}

func (silent) Add(int64)      {}
func (silent) SetTotal(int64) {}
func (silent) Done(error)     {}

// parseURIs reads lines such as: 'http://host/pool/x_1_all.deb' x_1_all.deb 1234 SHA256:0123...
func parseURIs(text string) []Download {
	var downloads []Download
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, "'")
		if !ok {
			continue
		}
		_, rest, ok = strings.Cut(rest, "' ")
		fields := strings.Fields(rest)
		if !ok || len(fields) < 2 || strings.Contains(fields[0], "/") {
			continue
		}
		d := Download{File: fields[0]}
		d.Size, _ = strconv.ParseInt(fields[1], 10, 64) // 0 is unknown
		for _, sum := range fields[2:] {
			if hash, ok := strings.CutPrefix(sum, "SHA256:"); ok {
				d.SHA256 = hash
			}
		}
		downloads = append(downloads, d)
	}
	return downloads
}

// fromCache puts packages of earlier builds where apt looks for them. One whose content is not what the repository says is left out and removed.
func (s *Session) fromCache(downloads []Download) error {
	if s.opts.Cache == "" {
		return nil
	}
	for _, d := range downloads {
		if d.SHA256 == "" {
			continue
		}
		cached := filepath.Join(s.opts.Cache, d.SHA256+".deb")
		switch err := verify(cached, d); {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			s.opts.Log.Warn("a file of the package cache is damaged; it is fetched again", "file", cached, "error", err)
			if err := os.Remove(cached); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		if err := linkOrCopy(cached, filepath.Join(s.dir, "cache/archives", d.File)); err != nil {
			return err
		}
	}
	return nil
}

// toCache keeps the packages that apt has fetched.
func (s *Session) toCache(downloads []Download) error {
	if s.opts.Cache == "" {
		return nil
	}
	if err := os.MkdirAll(s.opts.Cache, 0o755); err != nil {
		return err
	}
	for _, d := range downloads {
		fetched := filepath.Join(s.dir, "cache/archives", d.File)
		cached := filepath.Join(s.opts.Cache, d.SHA256+".deb")
		if d.SHA256 == "" {
			continue
		}
		if _, err := os.Lstat(cached); err == nil {
			continue
		}
		if _, err := os.Lstat(fetched); err != nil {
			continue // it came from a directory of this machine, and stays there
		}
		if err := linkOrCopy(fetched, cached); err != nil {
			return err
		}
	}
	return nil
}

// listsDir is where the cache keeps the lists of these repositories.
func (s *Session) listsDir() string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(s.sources.files)) {
		fmt.Fprintf(h, "%s\n%s\n", name, s.sources.files[name])
	}
	return filepath.Join(s.opts.Cache, "lists-"+hex.EncodeToString(h.Sum(nil)[:12]))
}

// listsFromCache puts the lists of an earlier build where apt looks for them: it fetches them again only if they have changed since.
func (s *Session) listsFromCache() error {
	if s.opts.Cache == "" || s.sources.own || len(s.sources.binds) > 0 {
		return nil
	}
	return linkAll(s.listsDir(), filepath.Join(s.dir, "lists"))
}

// listsToCache keeps the lists that apt has now. Of two builds at once, one does.
func (s *Session) listsToCache() error {
	if s.opts.Cache == "" || s.sources.own || len(s.sources.binds) > 0 {
		return nil
	}
	if err := os.MkdirAll(s.opts.Cache, 0o755); err != nil {
		return err
	}
	fresh, err := os.MkdirTemp(s.opts.Cache, ".lists-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	if err := linkAll(filepath.Join(s.dir, "lists"), fresh); err != nil {
		return err
	}
	if err := os.RemoveAll(s.listsDir()); err != nil {
		return err
	}
	if err := os.Rename(fresh, s.listsDir()); err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	return nil
}

// linkAll makes the files of one directory, if there is one, available in another.
func linkAll(from, to string) error {
	entries, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || e.Name() == "lock" {
			continue
		}
		err := linkOrCopy(filepath.Join(from, e.Name()), filepath.Join(to, e.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // another build has put newer ones there
			return err
		}
	}
	return nil
}

// verify compares a file with what the repository says of it.
func verify(path string, d Download) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	h := sha256.New()
	n, err := io.Copy(h, file)
	if err != nil {
		return err
	}
	if d.Size != 0 && n != d.Size {
		return fmt.Errorf("it has %d bytes of %d", n, d.Size)
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != d.SHA256 {
		return fmt.Errorf("its SHA-256 is %s, not %s", sum, d.SHA256)
	}
	return nil
}

// linkOrCopy makes a file available under another name, which appears complete or not at all. That it is there already is fine.
func linkOrCopy(from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	if _, err := io.Copy(out, in); err != nil {
		return errors.Join(err, out.Close())
	}
	if err := errors.Join(out.Chmod(0o644), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), to)
}
