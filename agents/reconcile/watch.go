package reconcile

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// pollInterval is how often the watched directories are compared with what the
// kernel watches. A directory that appears, or a mount that is put over it or
// restarted, raises no event that a watch on its path would see.
const pollInterval = time.Second

// A watcher turns changes in the watched directories into keys; "" stands for
// all of them, where events may have been lost.
type watcher struct {
	keys    chan string
	root    string
	watches []Watch
	notify  *fsnotify.Watcher
	seen    map[string]identity // by Dir: what the kernel watches there
	log     *slog.Logger
	done    chan struct{}
}

// An identity tells a directory from another one at the same path.
type identity struct{ dev, ino uint64 }

func newWatcher(root string, watches []Watch, log *slog.Logger) (*watcher, error) {
	notify, err := fsnotify.NewBufferedWatcher(4096)
	if err != nil {
		return nil, err
	}
	w := &watcher{
		keys:    make(chan string),
		root:    root,
		watches: watches,
		notify:  notify,
		seen:    map[string]identity{},
		log:     log,
		done:    make(chan struct{}),
	}
	w.refresh()
	return w, nil
}

// run sends keys until ctx ends.
func (w *watcher) run(ctx context.Context) {
	defer close(w.done)
	defer w.notify.Close()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-w.notify.Events:
			w.dispatch(ctx, event)
		case err := <-w.notify.Errors:
			w.log.Warn("events lost, looking at everything", "err", err)
			w.send(ctx, "")
		case <-poll.C:
			if w.refresh() {
				w.send(ctx, "")
			}
		}
	}
}

// wait returns when run has.
func (w *watcher) wait() { <-w.done }

// dispatch sends the keys an event concerns: its path is that of a watched
// directory or of an entry in one.
func (w *watcher) dispatch(ctx context.Context, event fsnotify.Event) {
	dir, name := filepath.Split(event.Name)
	for _, watch := range w.watches {
		if filepath.Join(w.root, watch.Dir) != filepath.Clean(dir) {
			continue
		}
		if key, ok := keyOf(watch, name); ok {
			w.send(ctx, key)
		}
	}
}

func (w *watcher) send(ctx context.Context, key string) {
	select {
	case w.keys <- key:
	case <-ctx.Done():
	}
}

// refresh makes the kernel watch what now lies at the watched paths. It
// reports whether that is something else than before. A directory made anew
// may have the number of the old one, whose watch the kernel has dropped.
func (w *watcher) refresh() (changed bool) {
	live := w.notify.WatchList()
	for _, watch := range w.watches {
		path := filepath.Join(w.root, watch.Dir)
		now, there := identify(path)
		before, watched := w.seen[watch.Dir]
		if there == watched && now == before && (!there || slices.Contains(live, path)) {
			continue
		}
		if watched {
			// The kernel drops the watch of a directory that has gone, so an error means nothing here.
			_ = w.notify.Remove(path)
			delete(w.seen, watch.Dir)
			changed = true
		}
		if !there {
			continue
		}
		if err := w.notify.Add(path); err != nil {
			w.log.Warn("directory not watched", "path", path, "err", err)
			continue
		}
		w.seen[watch.Dir] = now
		changed = true
	}
	return changed
}

func identify(path string) (identity, bool) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return identity{}, false
	}
	stat := info.Sys().(*syscall.Stat_t)
	return identity{stat.Dev, stat.Ino}, true
}
