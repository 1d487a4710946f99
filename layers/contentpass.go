package layers

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"slices"
)

// A blob that can't be entered in the middle is read in one pass even if its contents are wanted in another order, as long as this much
// memory is enough for those that come too early in it, summed over at most maxPasses blobs. Most tools write layers sorted, so that it mostly is
// next to nothing.
const (
	passMemory = 64 << 20
	maxPasses  = 12
)

// blobPass reads contents of one blob in a given order, in one pass over the blob.
type blobPass struct {
	source *BlobSource
	places []passPlace // ascending and without overlaps
	index  map[int64]int
	peak   int64 // bytes in memory when it is most
	total  int64

	in   *stream // nil before the first and after the last content
	next int     // the first place that the stream has not passed
	left int     // contents that are still to be opened
}

// passPlace is one content in the blob.
type passPlace struct {
	content *BlobContent
	uses    int    // how many nodes are still to read it
	kept    []byte // its bytes, if the stream has passed it
}

// planPasses finds the blobs that are read in one pass, for the contents of nodes in the order in which they will be opened, each node once.
func planPasses(nodes []*Node) map[*BlobSource]*blobPass {
	wanted := map[*BlobSource][]*BlobContent{}
	seen := map[*Node]struct{}{}
	for _, n := range nodes {
		if n == nil {
			continue
		}
		c, ok := n.Content.(*BlobContent)
		if _, again := seen[n]; !ok || again || c.Source.seekable() || c.Source.spooled() != nil || c.Source.staged != nil {
			continue
		}
		seen[n] = struct{}{}
		wanted[c.Source] = append(wanted[c.Source], c)
	}
	var passes []*blobPass
	for source, contents := range wanted {
		if p := planPass(source, contents); p != nil {
			passes = append(passes, p)
		}
	}
	slices.SortFunc(passes, func(a, b *blobPass) int { return cmp.Compare(b.total, a.total) })
	planned := map[*BlobSource]*blobPass{}
	memory := int64(0)
	for _, p := range passes {
		if memory+p.peak <= passMemory && len(planned) < maxPasses {
			memory += p.peak
			planned[p.source] = p
		}
	}
	return planned
}

// planPass finds out how much memory one pass takes; nil if it can't be done.
func planPass(source *BlobSource, contents []*BlobContent) *blobPass {
	p := &blobPass{source: source, index: map[int64]int{}, left: len(contents)}
	sorted := slices.SortedStableFunc(slices.Values(contents), func(a, b *BlobContent) int { return cmp.Compare(a.Offset, b.Offset) })
	end := int64(0)
	for _, c := range sorted {
		if last := len(p.places) - 1; last >= 0 && sameBytes(p.places[last].content, c) {
			p.places[last].uses++
			continue
		}
		for _, run := range c.runs() {
			if run.Offset < end {
				return nil // parts of one content belong to another
			}
			end = run.Offset + run.Length
		}
		if _, ok := p.index[c.Offset]; ok {
			return nil
		}
		p.index[c.Offset] = len(p.places)
		p.places = append(p.places, passPlace{content: c, uses: 1})
		p.total += c.Length
	}
	p.simulate(contents)
	return p
}

// simulate computes the peak of the memory.
func (p *blobPass) simulate(contents []*BlobContent) {
	uses := make([]int, len(p.places))
	for i := range p.places {
		uses[i] = p.places[i].uses
	}
	var next int
	var kept int64
	for _, c := range contents {
		i := p.index[c.Offset]
		uses[i]--
		if i < next {
			if uses[i] == 0 {
				kept -= c.Length
			}
			continue
		}
		for ; next < i; next++ {
			kept += p.places[next].content.Length
		}
		next++
		if uses[i] > 0 {
			kept += c.Length
		}
		p.peak = max(p.peak, kept)
	}
}

// open returns the data of a content. What was opened before must have been read by then.
func (p *blobPass) open(ctx context.Context, c *BlobContent) (io.ReadCloser, error) {
	i := p.index[c.Offset]
	if p.in == nil && p.next == 0 {
		var ranges []Extent
		for _, place := range p.places {
			ranges = append(ranges, place.content.runs()...)
		}
		p.in = p.source.streamRanges(ctx, ranges)
	}
	p.left--
	place := &p.places[i]
	place.uses--
	for ; p.next <= i; p.next++ {
		at := &p.places[p.next]
		data := &contentReader{source: p.source, in: p.in, runs: slices.Clone(at.content.runs())}
		if at.uses == 0 {
			// This is the one that was asked for, and nobody else will.
			p.next++
			return data, nil
		}
		var err error
		if at.kept, err = io.ReadAll(data); err != nil {
			return nil, err
		}
	}
	data := place.kept
	if place.uses == 0 {
		place.kept = nil
	}
	if p.left == 0 {
		p.close()
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// close ends the pass.
func (p *blobPass) close() {
	if p.in != nil {
		p.in.close()
		p.in = nil
	}
}
