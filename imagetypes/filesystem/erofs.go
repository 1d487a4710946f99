package filesystem

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
)

// erofs is written by mkfs.erofs, from a directory.

// erofsDefault is the compression if none is asked for: the only one that all versions of mkfs.erofs have.
const erofsDefault = "lz4"

func checkErofs(spec Spec) error {
	methods := []string{"lz4", "lz4hc", "lzma", "deflate", "zstd", "uncompressed"}
	for algorithm := range strings.SplitSeq(cmp.Or(spec.Compression, erofsDefault), ":") {
		method, level, _ := strings.Cut(algorithm, ",")
		if !slices.Contains(methods, method) || !regexp.MustCompile(`^[a-z0-9=,]*$`).MatchString(level) || method == "uncompressed" && method != spec.Compression {
			return fmt.Errorf("%q is no compression of erofs; it has lz4, lz4hc, lzma, deflate and zstd, each with a level if wanted (lz4hc,12), or uncompressed", spec.Compression)
		}
	}
	if len(spec.Label) > 15 {
		return fmt.Errorf("the label %q has %d bytes; erofs file systems allow 15", spec.Label, len(spec.Label))
	}
	return checkWords(spec.MkfsOptions)
}

// maxErofsName is the longest name in bytes that mkfs.erofs 1.5 takes; the format allows one more.
const maxErofsName = 254

func checkErofsTree(tree *layers.Tree) error {
	return tree.Walk(func(name string, _ *layers.Node) error {
		if n := len(path.Base(name)); n > maxErofsName {
			return fmt.Errorf("the name of /%s has %d bytes, and mkfs.erofs takes %d; use squashfs", name, n, maxErofsName)
		}
		return nil
	})
}

// erofsTool is mkfs.erofs with what the spec asks for.
func erofsTool(env Env, spec Spec) directoryTool {
	args := []string{"--quiet", "--preserve-mtime", "-U" + env.uuid(spec)}
	switch spec.Compression {
	case "":
		args = append(args, "-z"+erofsDefault)
	case "uncompressed":
	default:
		args = append(args, "-z"+spec.Compression)
	}
	args = append(args, spec.MkfsOptions...)
	return directoryTool{kind: "erofs", program: "mkfs.erofs", length: erofsLength, arguments: func(dir, to string) []string { return append(args, to, dir) }}
}

func makeErofs(ctx context.Context, env Env, tree *layers.Tree, spec Spec) (_ *os.File, _ int64, err error) {
	if err := checkErofsTree(tree); err != nil {
		return nil, 0, err
	}
	task := env.Progress.Start("writing erofs", tree.Stats().Data, progress.Bytes)
	defer func() { task.Done(err) }()
	f, size, notes, err := erofsTool(env, spec).run(ctx, env, tree)
	if err != nil {
		return nil, 0, err
	}
	if err := finishErofs(f, env.Repro.Epoch, spec.Label); err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("setting time and label of the file system: %w", err)
	}
	env.report("erofs", notes)
	return f, size, nil
}

// The superblock of erofs (Linux, fs/erofs/erofs_fs.h: struct erofs_super_block), little-endian. Offsets and sizes are in bytes.
const (
	erofsSuper     = 1024 // where it lies
	erofsBlock     = 4096 // the check sum is that of the superblock and what follows up to here
	erofsMagic     = 0xe0f5e1e2
	erofsChecksum  = 4
	erofsFeatures  = 8
	erofsSummed    = 1 // feature: there is a check sum
	erofsBuildTime = 24
	erofsBuildNano = 32
	erofsLabel     = 64
	erofsLabelSize = 16
)

// finishErofs sets when the file system was made, which mkfs.erofs can't do without giving all files the same time, and the label, which it knows since 1.7.
func finishErofs(f *os.File, at time.Time, label string) error {
	block := make([]byte, erofsBlock-erofsSuper)
	if _, err := f.ReadAt(block, erofsSuper); err != nil {
		return err
	}
	order := binary.LittleEndian
	if magic := order.Uint32(block); magic != erofsMagic {
		return fmt.Errorf("mkfs.erofs has made something that begins with %#x", magic)
	}
	order.PutUint64(block[erofsBuildTime:], uint64(at.Unix()))
	order.PutUint32(block[erofsBuildNano:], 0)
	clear(block[erofsLabel : erofsLabel+erofsLabelSize])
	copy(block[erofsLabel:erofsLabel+erofsLabelSize], label)
	if order.Uint32(block[erofsFeatures:])&erofsSummed != 0 {
		order.PutUint32(block[erofsChecksum:], 0)
		// CRC-32C as the kernel computes it: begun with all ones, as here, and not inverted at the end.
		order.PutUint32(block[erofsChecksum:], ^crc32.Checksum(block, crc32.MakeTable(crc32.Castagnoli)))
	}
	_, err := f.WriteAt(block, erofsSuper)
	return err
}
