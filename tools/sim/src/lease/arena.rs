//! Keeps what work in progress borrows, until the world ends: a guard of the library borrows its holder, and in a world
//! of events both lie about for any time.

use std::cell::OnceCell;

/// Everything that was kept, each in the box of the one before.
#[derive(Debug)]
pub(super) struct Arena<T> {
    first: Link<T>,
}

type Link<T> = OnceCell<Box<Node<T>>>;

#[derive(Debug)]
struct Node<T> {
    value: T,
    next: Link<T>,
}

/// Where the next one is kept.
#[derive(Debug)]
pub(super) struct Keeper<'a, T> {
    end: &'a Link<T>,
}

impl<T> Arena<T> {
    pub(super) fn new() -> Self {
        Arena { first: OnceCell::new() }
    }

    /// The only one for this arena.
    pub(super) fn keeper(&mut self) -> Keeper<'_, T> {
        Keeper { end: &self.first }
    }
}

impl<'a, T> Keeper<'a, T> {
    pub(super) fn keep(&mut self, value: T) -> &'a T {
        let node = self.end.get_or_init(|| Box::new(Node { value, next: OnceCell::new() }));
        self.end = &node.next;
        &node.value
    }
}

/// One by one: boxes in boxes would need a stack as deep.
impl<T> Drop for Arena<T> {
    fn drop(&mut self) {
        let mut next = self.first.take();
        while let Some(mut node) = next {
            next = node.next.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_are_kept_where_they_are_and_dropped_without_a_deep_stack() {
        let mut arena = Arena::new();
        let mut keeper = arena.keeper();
        let kept: Vec<&u32> = (0..1_000_000).map(|n| keeper.keep(n)).collect();
        assert!(kept.iter().zip(0..).all(|(kept, n)| **kept == n));
    }
}
