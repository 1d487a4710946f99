package apt

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/rootfs/packages"
)

// download is a package's archive that an installation needs.
type download struct {
	packages.Package
	uri string // as the sandbox knows it
}

// sum is the SHA-256 of the package in hexadecimal, "" if the repository tells none.
func (d download) sum() string {
	sum, _ := strings.CutPrefix(d.Checksum, sumPrefix)
	return sum
}

const sumPrefix = "sha256:"

// parseURIs reads lines such as: 'http://host/pool/x_1_all.deb' x_1_all.deb 1234 SHA256:0123...
func parseURIs(text string) []download {
	var downloads []download
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, "'")
		if !ok {
			continue
		}
		uri, rest, ok := strings.Cut(rest, "' ")
		fields := strings.Fields(rest)
		if !ok || len(fields) < 2 || strings.Contains(fields[0], "/") {
			continue
		}
		d := download{uri: uri}
		d.File, d.Installed, d.Download = fields[0], -1, -1
		// NAME_VERSION_ARCH.deb, with the epoch's colon as %3a.
		parts := append(strings.Split(strings.TrimSuffix(fields[0], ".deb"), "_"), "", "")
		d.Name, d.Version, d.Arch = parts[0], strings.ReplaceAll(parts[1], "%3a", ":"), parts[2]
		if n, err := strconv.ParseInt(fields[1], 10, 64); err == nil && n > 0 {
			d.Download = n
		}
		for _, sum := range fields[2:] {
			if hash, ok := strings.CutPrefix(sum, "SHA256:"); ok {
				d.Checksum = sumPrefix + hash
			}
		}
		downloads = append(downloads, d)
	}
	return downloads
}

// path is where the package lies on this machine: in a repository's directory, or where apt puts what it fetches.
func (s *session) path(d download) string {
	if name, ok := strings.CutPrefix(d.uri, "file:"); ok {
		if plain, err := url.PathUnescape(name); err == nil {
			name = path.Clean("/" + plain)
		}
		for _, r := range s.Repositories.List {
			for _, dir := range []string{strings.TrimPrefix(r.URI, "file://"), indexDir + "/" + r.Alias + "/" + packagesLink} {
				if rest, ok := strings.CutPrefix(name, dir+"/"); ok && r.Local != "" {
					return filepath.Join(r.Local, rest)
				}
			}
		}
	}
	return filepath.Join(s.dir, "cache/archives", d.File)
}

// cacheDir is the part of the package cache that is apt's.
func (s *session) cacheDir() string { return filepath.Join(s.Cache, "apt") }

// fromCache puts packages of earlier builds where apt looks for them.
func (s *session) fromCache(downloads []download) error {
	if s.Cache == "" {
		return nil
	}
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, d := range downloads {
		if d.sum() != "" {
			group.Go(func() error { return s.oneFromCache(d) })
		}
	}
	return group.Wait()
}

// oneFromCache makes one package available, if the cache has it. One whose content is not what the repository says is left out and removed.
func (s *session) oneFromCache(d download) error {
	cached := filepath.Join(s.cacheDir(), d.sum()+".deb")
	switch err := verify(cached, d); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		s.Log.Warn("a file of the package cache is damaged; it is fetched again", "file", cached, "error", err)
		if err := os.Remove(cached); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	return packages.LinkOrCopy(cached, filepath.Join(s.dir, "cache/archives", d.File))
}

// toCache keeps the packages that apt has fetched.
func (s *session) toCache(downloads []download) error {
	if s.Cache == "" {
		return nil
	}
	if err := os.MkdirAll(s.cacheDir(), 0o755); err != nil {
		return err
	}
	for _, d := range downloads {
		fetched := filepath.Join(s.dir, "cache/archives", d.File)
		cached := filepath.Join(s.cacheDir(), d.sum()+".deb")
		if d.sum() == "" {
			continue
		}
		if _, err := os.Lstat(cached); err == nil {
			continue
		}
		if _, err := os.Lstat(fetched); err != nil {
			continue // it came from a directory of this machine, and stays there
		}
		if err := packages.LinkOrCopy(fetched, cached); err != nil {
			return err
		}
	}
	return nil
}

// listsDir is where the cache keeps the lists of these repositories.
func (s *session) listsDir() string {
	h := sha256.New()
	fmt.Fprintln(h, Architecture(s.Arch))
	for _, f := range s.sources.files {
		if !f.local {
			fmt.Fprintf(h, "%s\n%s\n%x\n", f.name, f.data, f.keys)
		}
	}
	return filepath.Join(s.cacheDir(), "lists-"+hex.EncodeToString(h.Sum(nil)[:12]))
}

// listsFromCache puts the lists of an earlier build where apt looks for them: it fetches them again only if they have changed since.
func (s *session) listsFromCache() error {
	if s.Cache == "" || s.sources.own {
		return nil
	}
	return linkAll(s.listsDir(), filepath.Join(s.dir, "lists"))
}

// listsToCache keeps the lists that apt has now. Of two builds at once, one does.
func (s *session) listsToCache() error {
	if s.Cache == "" || s.sources.own {
		return nil
	}
	if err := os.MkdirAll(s.cacheDir(), 0o755); err != nil {
		return err
	}
	fresh, err := os.MkdirTemp(s.cacheDir(), ".lists-")
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

// localLists begins the names of lists of this machine's directories, which are not kept: they need not be fetched.
const localLists = "_run_imgbuild_"

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
		if !e.Type().IsRegular() || e.Name() == "lock" || strings.HasPrefix(e.Name(), localLists) {
			continue
		}
		err := packages.LinkOrCopy(filepath.Join(from, e.Name()), filepath.Join(to, e.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // another build has put newer ones there
			return err
		}
	}
	return nil
}

// verify compares a file with what the repository says of it.
func verify(path string, d download) error {
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
	if d.Download >= 0 && n != d.Download {
		return fmt.Errorf("it has %d bytes of %d", n, d.Download)
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != d.sum() {
		return fmt.Errorf("its SHA-256 is %s, not %s", sum, d.sum())
	}
	return nil
}
