package results

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/imagetypes/archive"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/atomicfile"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/ctxio"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/sparse"
	"github.com/imgbuild/imgbuild/layers"
)

// BundleOptions say what a bundle is made of.
type BundleOptions struct {
	Target string // the directory with the results
	Dir    string // the directory of the bundle, made if it is missing
	ID     string // goes into the names
	// Pattern makes the names: %N name, %P profiles, %A architecture, %I the id, %T type, %v version, %M %m %p its parts, %% a percent sign. Empty for the description's,
	// and without one the names stay and get the id behind the version.
	Pattern string
	// Compression of the files that are to be compressed: xz (the default), gzip, zstd or none.
	Compression string
	// XZ is arguments for the program xz, where it is to compress; empty for our own writer.
	XZ []string
	// ZsyncSource is the address that the bundle will be downloaded from; "" makes no files for zsync.
	ZsyncSource string
	Progress    progress.Reporter // nil shows nothing

	renames *strings.Replacer // from the names of results to those in the bundle
	sums    map[string]string // SHA-256 by the names of results, as the build wrote them
}

// bundled is a file of a bundle: its name there, and where it comes from.
type bundled struct {
	Result
	name string
}

// Bundle copies those results of a build that are for a bundle into a directory of their own, under names with an id, compressed where the build's list says so, with a
// file NAME.sha256 beside each image that sha256sum checks. Files of an earlier bundle are replaced when all of the new ones are complete. A result that is not what the
// build's SHA256SUMS says is a *[ChangedError].
func Bundle(ctx context.Context, o BundleOptions) (files []File, err error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Compression == "" {
		o.Compression = "xz"
	}
	list, err := ReadList(o.Target)
	if err != nil {
		return nil, err
	}
	plan, err := o.plan(list)
	if err != nil {
		return nil, err
	}
	if o.sums, err = readSums(o.Target); err != nil {
		return nil, err
	}
	if o.ZsyncSource != "" {
		if _, err := command.Find("zsyncmake"); err != nil {
			return nil, err
		}
	}
	staging, err := Stage(o.Dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, staging.Discard()) }()
	o.renames = renames(plan)
	for i := range plan {
		file, err := o.make(ctx, staging, &plan[i])
		if err != nil {
			return nil, fmt.Errorf("bundling %s: %w", filepath.Base(plan[i].Path), err)
		}
		files = append(files, file)
	}
	return files, staging.publishBundle(files)
}

// compressions are the endings of the names of compressed files.
func compressions() map[string]string {
	return map[string]string{"xz": ".xz", "gzip": ".gz", "zstd": ".zst", "none": ""}
}

// idPattern is what may be in a file's name without surprises.
const idPattern = `^[A-Za-z0-9_+~=@][A-Za-z0-9._+~=@-]*$`

// Validate refuses an id, a pattern, a compression and an address that make no sense.
func (o *BundleOptions) Validate() error {
	if !regexp.MustCompile(idPattern).MatchString(o.ID) {
		return fmt.Errorf("making a bundle: the id %q is not made of letters, digits and ._+~=@-", o.ID)
	}
	if _, ok := compressions()[o.Compression]; o.Compression != "" && !ok {
		return fmt.Errorf("making a bundle: the compression %q is none of xz, gzip, zstd and none", o.Compression)
	}
	if o.ZsyncSource != "" {
		if source, err := url.Parse(o.ZsyncSource); err != nil || source.Scheme == "" || source.Host == "" {
			return fmt.Errorf("making a bundle: %q is no address to download from; write one such as https://example.org/images", o.ZsyncSource)
		}
	}
	_, err := new(Naming).replace(o.Pattern, o.ID)
	return err
}

// maxName is how many bytes a file's name may have (Linux's NAME_MAX), and longestEnding what may follow that of a result in a bundle.
const (
	maxName       = 255
	longestEnding = ".zst.sha256"
)

// plan decides the names.
func (o *BundleOptions) plan(list *List) ([]bundled, error) {
	same, err := sameDir(o.Target, o.Dir)
	if err != nil {
		return nil, fmt.Errorf("making a bundle: %w", err)
	}
	if same {
		return nil, fmt.Errorf("making a bundle in %s: the bundle's directory must be another one than that of the results", o.Dir)
	}
	var plan []bundled
	from := map[string]string{}
	for _, r := range list.Results {
		if !r.Bundle {
			continue
		}
		name, err := o.name(list.naming(r), filepath.Base(r.Path))
		if err != nil {
			return nil, err
		}
		if other := from[name]; other != "" {
			return nil, fmt.Errorf("making a bundle: %s and %s would both be %s; use another pattern", other, filepath.Base(r.Path), name)
		}
		if len(name)+len(longestEnding) > maxName {
			return nil, fmt.Errorf("making a bundle: the name %s... of %s would be too long; use a shorter id or pattern", name[:40], filepath.Base(r.Path))
		}
		from[name] = filepath.Base(r.Path)
		plan = append(plan, bundled{r, name})
	}
	if len(plan) == 0 {
		return nil, fmt.Errorf("making a bundle: %s names no result that is for a bundle", filepath.Join(o.Target, ListFile))
	}
	return plan, nil
}

func sameDir(a, b string) (bool, error) {
	first, err := os.Stat(a)
	if err != nil {
		return false, err
	}
	second, err := os.Stat(b)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(first, second), err
}

// name is what a result is called in the bundle.
func (o *BundleOptions) name(naming *Naming, file string) (string, error) {
	pattern := o.Pattern
	if pattern == "" && naming != nil {
		pattern = naming.Pattern
	}
	base, rest, err := splitName(naming, file)
	if err != nil {
		return "", err
	}
	if pattern == "" {
		return base + "-" + o.ID + rest, nil
	}
	if naming == nil {
		return "", fmt.Errorf("making a bundle: %s does not say what the pattern's parts are; build again, or leave the pattern out", ListFile)
	}
	name, err := naming.expand(pattern, o.ID)
	if err != nil {
		return "", err
	}
	return name + rest, nil
}

// splitName takes a result's name apart: <name>.<arch>-<version>, and the rest.
func splitName(naming *Naming, file string) (base, rest string, err error) {
	if naming != nil {
		if base := naming.Tags.Name + "." + naming.Tags.Arch + "-" + naming.Tags.Version; strings.HasPrefix(file, base) {
			return base, file[len(base):], nil
		}
	}
	found := regexp.MustCompile(`^(.*\.[A-Za-z0-9_]+-[0-9]+(?:\.[0-9]+)*)(.*)$`).FindStringSubmatch(file)
	if found == nil {
		return "", "", fmt.Errorf("making a bundle: the name of %s has no version that the id could follow", file)
	}
	return found[1], found[2], nil
}

// expand makes a name of a pattern.
func (n *Naming) expand(pattern, id string) (string, error) {
	text, err := n.replace(pattern, id)
	if err != nil {
		return "", err
	}
	if text == "" || strings.HasPrefix(text, ".") || strings.ContainsAny(text, "/\x00\n") {
		return "", fmt.Errorf("making a bundle: the pattern %q gives %q, which is no file name", pattern, text)
	}
	return text, nil
}

// replace puts the values into a pattern.
func (n *Naming) replace(pattern, id string) (string, error) {
	t := n.Tags
	values := map[byte]string{
		'N': t.Name, 'P': t.Profiles, 'A': t.Arch, 'I': id, 'T': t.Type, 'v': t.Version, '%': "%",
		'M': strconv.Itoa(t.Major), 'm': strconv.Itoa(t.Minor), 'p': strconv.Itoa(t.Patch),
	}
	var name strings.Builder
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '%' {
			name.WriteByte(pattern[i])
			continue
		}
		i++
		if i == len(pattern) {
			return "", fmt.Errorf("making a bundle: the pattern %q ends with a %%", pattern)
		}
		value, ok := values[pattern[i]]
		if !ok {
			return "", fmt.Errorf("making a bundle: the pattern %q has %%%c, which is none of %%N %%P %%A %%I %%T %%v %%M %%m %%p", pattern, pattern[i])
		}
		name.WriteString(value)
	}
	return name.String(), nil
}

// make writes one file of the bundle, and what goes beside it, into the staging directory.
func (o *BundleOptions) make(ctx context.Context, s *Staging, b *bundled) (File, error) {
	in, err := os.Open(b.Path)
	if err != nil {
		return File{}, err
	}
	defer in.Close()
	if b.Compress {
		b.name += compressions()[o.Compression]
	}
	path := filepath.Join(s.Dir, b.name)
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
	if err != nil {
		return File{}, err
	}
	task := o.progress().Start("bundling "+b.name, b.Size, progress.Bytes)
	source, err := o.write(ctx, out, in, b, task)
	task.Done(err)
	if err := errors.Join(err, out.Close()); err != nil {
		return File{}, err
	}
	size, sum, err := complete(ctx, path, "", o.progress())
	if err != nil {
		return File{}, err
	}
	if want, got := o.sums[filepath.Base(b.Path)], cmp.Or(source, sum); want != "" && got != want {
		return File{}, &ChangedError{Path: b.Path, Got: got, Want: want}
	}
	file := File{Path: filepath.Join(s.target, b.name), Key: b.Key, Size: size, SHA256: sum}
	if !b.Shasum {
		return file, nil
	}
	if o.ZsyncSource != "" {
		source := strings.TrimSuffix(o.ZsyncSource, "/") + "/" + b.name
		cmd := command.Cmd{Name: "zsyncmake", Args: []string{"-e", "-Z", "-u", source, "-o", path + ".zsync", path}}
		if err := command.Run(ctx, cmd); err != nil {
			return File{}, err
		}
	}
	return file, s.writeSynced(b.name+".sha256", []byte(sumLine(sum, b.name)))
}

func (o *BundleOptions) progress() progress.Reporter {
	if o.Progress == nil {
		return progress.Discard
	}
	return o.Progress
}

// write copies the content, compressed if it is to be. It returns the digest of what it has read; "" if what it has written is the same.
func (o *BundleOptions) write(ctx context.Context, out, in *os.File, b *bundled, task progress.Task) (string, error) {
	digest := sha256.New()
	content := io.TeeReader(ctxio.Reader(ctx, progress.Reader(in, task)), digest)
	fill := func(w io.Writer) error {
		_, err := io.Copy(w, content)
		return err
	}
	var err error
	switch {
	case b.Key == image.KeyMachineSettings:
		err = o.writeSettings(out, content)
	case !b.Compress || o.Compression == "none":
		return "", copySparse(ctx, out, in, b.Size, task)
	case o.Compression == "xz":
		err = archive.XZ(ctx, out, o.XZ, fill)
	default:
		var compression layers.Compression
		if compression, err = layers.ParseCompression(o.Compression); err == nil {
			_, err = layers.Compress(ctx, out, layers.PackOptions{Compression: compression}, fill)
		}
	}
	return hex.EncodeToString(digest.Sum(nil)), err
}

// copySparse copies a file with its holes; where the file system can, both share their blocks.
func copySparse(ctx context.Context, out, in *os.File, size int64, task progress.Task) error {
	if unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil {
		task.Add(size)
		return nil
	}
	for at := int64(0); at < size; {
		begin, end, err := sparse.NextData(in, at, size)
		if err != nil {
			return err
		}
		task.Add(begin - at)
		if _, err := out.Seek(begin, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.Copy(out, ctxio.Reader(ctx, progress.Reader(io.NewSectionReader(in, begin, end-begin), task))); err != nil {
			return err
		}
		at = end
	}
	return out.Truncate(size)
}

// publishBundle renames everything to its final name.
func (s *Staging) publishBundle(files []File) error {
	beside := []string{".sha256", ".zsync"}
	for _, f := range files {
		name := filepath.Base(f.Path)
		for _, ending := range beside { // none of them is ever there for another file
			if err := os.Remove(f.Path + ending); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("replacing an earlier bundle: %w", err)
			}
		}
		for _, ending := range append([]string{""}, beside...) {
			err := os.Rename(filepath.Join(s.Dir, name+ending), f.Path+ending)
			if err != nil && (ending == "" || !errors.Is(err, fs.ErrNotExist)) {
				return fmt.Errorf("putting %s in its place: %w", name+ending, err)
			}
		}
	}
	return atomicfile.SyncDir(s.target)
}
