package filesystem

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem/squashfs"
	"github.com/imgbuild/imgbuild/imagetypes/filesystem/squashfs/compress"
)

// squashfsOptions reads the compression and the options, which are those of mksquashfs 4.5. It reports false where only that program can do what
// they ask for; what they mean is for it to judge, then.
func squashfsOptions(spec Spec) (squashfs.Options, bool, error) {
	w := squashfsWords{rest: spec.MkfsOptions, native: true, options: squashfs.Options{BlockSize: compress.DefaultBlockSize}}
	for len(w.rest) > 0 {
		option := w.rest[0]
		w.rest = w.rest[1:]
		if w.flag(option) || w.plain(option) {
			continue
		}
		if err := w.setting(option); err != nil {
			return squashfs.Options{}, false, fmt.Errorf("reading the option %s of squashfs: %w", option, err)
		}
	}
	o := w.options
	switch method := o.Compression.Method; {
	case spec.Compression == "uncompressed":
		w.plain("-no-compression")
		o = w.options
		o.Compression.Method = "gzip" // which every kernel with squashfs can read: one that can't refuses the file system
	case method != "" && spec.Compression != "" && method != spec.Compression:
		return squashfs.Options{}, false, fmt.Errorf("the option -comp %s and the compression %s say different: leave one of them out", method, spec.Compression)
	case method == "":
		o.Compression.Method = spec.Compression
	}
	if !w.native || slices.Contains([]string{"lz4", "lzma", "lzo"}, o.Compression.Method) || isZstd(o) && o.Compression.Level > maxZstdLevel {
		return squashfs.Options{}, false, nil
	}
	o.Compression.BlockSize = o.BlockSize
	if w.percent > 0 {
		o.Compression.DictionarySize = int(w.percent / 100 * float64(o.BlockSize))
	}
	if _, err := compress.New(o.Compression); err != nil {
		return squashfs.Options{}, false, fmt.Errorf("reading the options of squashfs: %w", err)
	}
	return o, true, nil
}

// maxZstdLevel is the highest level of zstd that our writer reaches.
const maxZstdLevel = 11

func isZstd(o squashfs.Options) bool {
	return o.Compression.Method == "" || o.Compression.Method == "zstd"
}

// squashfsWords are options that are being read.
type squashfsWords struct {
	rest    []string
	options squashfs.Options
	percent float64 // of a block: the dictionary of xz; 0 if it is not given so
	native  bool    // nothing so far needs mksquashfs
}

// flag reads an option without a value, if it is one.
func (w *squashfsWords) flag(option string) bool {
	o := &w.options
	switch option {
	case "-noappend", "-no-progress", "-progress", "-quiet", "-info", "-exit-on-error", "-no-recovery", "-reproducible", "-xattrs", "-exports":
		// It is so in any case, or has no effect on the result.
	case "-no-duplicates":
		o.KeepDuplicates = true
	case "-no-fragments":
		o.Fragments = squashfs.FragmentsNone
	case "-always-use-fragments", "-tailends":
		o.Fragments = squashfs.FragmentsAlways
	case "-no-xattrs":
		o.NoXattrs = true
	case "-no-exports":
		o.NoExport = true
	case "-nopad":
		o.NoPadding = true
	case "-all-root", "-root-owned":
		o.UID, o.GID = new(uint32), new(uint32)
	default:
		return false
	}
	return true
}

// plain reads an option that leaves something as it is, without compression.
func (w *squashfsWords) plain(option string) bool {
	o := &w.options
	switch option {
	case "-noI", "-noInodeCompression":
		o.PlainInodes = true
	case "-noId", "-noIdTableCompression":
		o.PlainIDs = true
	case "-noD", "-noDataCompression":
		o.PlainData = true
	case "-noF", "-noFragmentCompression":
		o.PlainFragments = true
	case "-noX", "-noXattrCompression":
		o.PlainXattrs = true
	case "-no-compression":
		o.PlainInodes, o.PlainIDs, o.PlainData, o.PlainFragments, o.PlainXattrs = true, true, true, true, true
	default:
		return false
	}
	return true
}

// setting reads an option with a value.
func (w *squashfsWords) setting(option string) error {
	known := []string{
		"-b", "-comp", "-Xcompression-level", "-Xbcj", "-Xdict-size", "-Xwindow-size", "-Xstrategy", "-force-uid", "-force-gid",
		"-processors", "-mem", "-mem-percent", "-throttle", "-limit",
	}
	if !slices.Contains(known, option) {
		w.native = false
		return nil
	}
	if len(w.rest) == 0 {
		return errors.New("it needs a value")
	}
	value := w.rest[0]
	w.rest = w.rest[1:]
	o := &w.options
	var err error
	switch option {
	case "-b":
		o.BlockSize, err = squashfsSize(value)
	case "-comp":
		o.Compression.Method = value
	case "-Xcompression-level":
		o.Compression.Level, err = strconv.Atoi(value)
		if err == nil && o.Compression.Level < 1 {
			err = fmt.Errorf("there is no level %d", o.Compression.Level)
		}
	case "-Xbcj":
		o.Compression.Filters = strings.Split(value, ",")
		w.native = w.native && !slices.Contains(o.Compression.Filters, "ia64")
	case "-Xdict-size":
		if percent, ok := strings.CutSuffix(value, "%"); ok {
			w.percent, err = strconv.ParseFloat(percent, 64)
			if err == nil && !(w.percent > 0 && w.percent <= 100) {
				err = fmt.Errorf("%q is no part of a block", value)
			}
		} else {
			o.Compression.DictionarySize, err = squashfsSize(value)
		}
	case "-Xwindow-size":
		o.Compression.Window, err = strconv.Atoi(value)
	case "-Xstrategy":
		w.native = w.native && value == "default"
	case "-force-uid":
		o.UID = w.owner(value)
	case "-force-gid":
		o.GID = w.owner(value)
	case "-processors":
		o.Processors, err = strconv.Atoi(value)
		if err == nil && o.Processors < 1 {
			err = fmt.Errorf("%d are too few", o.Processors)
		}
	}
	return err
}

// owner reads the number of a user or group. What is none is a name of this machine, which mksquashfs may know.
func (w *squashfsWords) owner(value string) *uint32 {
	id, err := strconv.ParseUint(value, 10, 32)
	w.native = w.native && err == nil
	number := uint32(id)
	return &number
}

// squashfsSize reads a size in bytes, with K or M behind it for 1024 or 1024 * 1024 of them.
func squashfsSize(value string) (int, error) {
	number, shift := value, 0
	for i, unit := range []string{"kK", "mM"} {
		if short := strings.TrimRight(value, unit); short != value {
			number, shift = short, 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(number, 10, 31-shift)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no size in bytes, KiB (64K) or MiB (1M)", value)
	}
	return int(n) << shift, nil
}
