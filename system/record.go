package system

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/imgbuild/imgbuild/internal/logtext"
)

// record is the log of one build in a file beside its root tree, as KIWI keeps it.
type record struct {
	work *workplace
	file *os.File
	logs []**slog.Logger // that go there too
	were []*slog.Logger  // before
}

// beginRecord begins the log: from now on the logs of the jobs go there too, and further ones.
func beginRecord(work *workplace, jobs []*job, further ...**slog.Logger) (*record, error) {
	file, err := os.Create(work.place("log"))
	if err != nil {
		return nil, fmt.Errorf("beginning the log of the build: %w", err)
	}
	r := &record{work: work, file: file}
	kept := logtext.New(file, logtext.Options{Level: slog.LevelDebug, Times: true})
	for _, j := range jobs {
		if len(jobs) > 1 {
			r.add(&j.Log, kept.WithAttrs([]slog.Attr{slog.String("type", j.image.Type.Image)}))
		} else {
			r.add(&j.Log, kept)
		}
		j.Log.Info("building " + j.what())
	}
	for _, log := range further {
		r.add(log, kept)
	}
	return r, nil
}

// add lets a log go to a further place.
func (r *record) add(log **slog.Logger, further slog.Handler) {
	r.logs, r.were = append(r.logs, log), append(r.were, *log)
	*log = slog.New(slog.NewMultiHandler((*log).Handler(), further))
}

// close ends the log with how the build has ended. The log stays where there is or was a root tree, unless the user has ended the build.
func (r *record) close(ctx context.Context, err error) error {
	log := *r.logs[0]
	if err != nil {
		log.Debug("the build has failed: " + err.Error())
	} else {
		log.Debug("the build is done")
	}
	for i, was := range r.were {
		*r.logs[i] = was
	}
	closeErr := r.file.Close()
	_, statErr := os.Lstat(r.work.root)
	there := !errors.Is(statErr, fs.ErrNotExist)
	if err != nil {
		there = r.work.unpacked()
	}
	if !there || ctx.Err() != nil {
		return errors.Join(err, closeErr)
	}
	name := r.work.root + ".log"
	if renameErr := os.Rename(r.file.Name(), name); renameErr != nil || closeErr != nil {
		return errors.Join(err, closeErr, renameErr)
	}
	if err != nil {
		return fmt.Errorf("%w\nthe log of the build is %s", err, name)
	}
	return nil
}
